//! The local cloud: enough of AWS on loopback to run the whole system on a laptop, with AWS's bad habits.

pub mod world;
