//! aws-proxymanager: machines in your own AWS account sleep when nobody uses them and wake when somebody does.
//!
//! `domain` decides and does no I/O; everything else observes, applies or answers. See `ARCHITECTURE.md`.

#[cfg(feature = "aws")]
pub mod aws;
pub mod compute;
pub mod config;
pub mod domain;
pub mod drive;
pub mod gateway;
pub mod ledger;
