//! Days of an account in seconds: the shipped driver over ports that lead into the local cloud's world, with virtual time
//! and no process.
#![allow(dead_code, reason = "each test uses its part")]

pub mod account;
pub mod cloud;
pub mod hands;
pub mod ledger;
pub mod meters;
pub mod people;
pub mod ports;
pub mod scene;
pub mod table;
pub mod time;
