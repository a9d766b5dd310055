//! aws-proxymanager: machines in your own AWS account sleep when nobody uses them and wake when somebody does.
//!
//! `domain` decides and does no I/O; everything else observes, applies or answers. See `ARCHITECTURE.md`.

#[cfg(feature = "aws")]
pub mod activity;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(any(feature = "local", feature = "proxy"))]
mod child;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod compute;
pub mod config;
#[cfg(feature = "cli")]
pub mod deployed;
#[cfg(feature = "cli")]
pub mod doctor;
pub mod domain;
#[cfg(feature = "aws")]
pub mod drive;
#[cfg(feature = "aws")]
pub mod function;
pub mod gateway;
pub mod http;
pub mod ledger;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "page")]
pub mod page;
#[cfg(all(test, feature = "proxy"))]
mod played;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod rules;
#[cfg(feature = "aws")]
pub mod telemetry;
#[cfg(feature = "cli")]
pub mod upgrade;
#[cfg(feature = "aws")]
pub mod wiring;
