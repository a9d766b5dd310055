//! aws-proxymanager: machines in your own AWS account sleep when nobody uses them and wake when somebody does.
//!
//! `domain` decides and does no I/O; everything else observes, applies or answers. See `ARCHITECTURE.md`.

pub mod domain;
#[cfg(feature = "local")]
pub mod local;
