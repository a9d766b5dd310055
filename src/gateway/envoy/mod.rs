//! The control plane of Envoy: what it shall do goes in as a [`View`]; out come rings, held requests, loads and accesses.
//!
//! No byte between a client and an awake rule passes through here. Types of Envoy's API never leave this folder.

mod access;
pub mod admin;
mod authz;
mod delta;
mod doorbell;
mod hub;
mod load;
#[cfg(test)]
pub mod model;
mod names;
mod plane;
pub mod process;
mod server;
mod snapshot;
mod view;
mod wire;

pub use plane::{
    Access, AccessKind, Covered, Judge, Load, Loads, NotAcked, Places, Plane, Rejection, Signals, Version,
};
pub use view::*;
