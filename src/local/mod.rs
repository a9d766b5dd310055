//! The local cloud: enough of AWS on loopback to run the whole system on a laptop, with AWS's bad habits.
//!
//! `world` is pure and decides what AWS would; `api` serves it over HTTP to any SDK, `alb` is the load balancer's data
//! plane, `lambda` runs the real function through the real runtime API, `instances` are real local programs. `cloud`
//! starts all of it, `run` is the command.

pub mod alb;
pub mod api;
mod args;
pub mod clock;
pub mod cloud;
pub mod instances;
pub mod lambda;
pub mod log;
pub mod process;
mod run;
mod sample;
pub mod seed;
pub mod serve;
pub mod shared;
mod steer;
mod wildcard;
pub mod world;

pub use args::Args;
pub use cloud::{Cloud, Config, SeedAsleep, StartError};
pub use run::run;
pub use steer::Action;
