//! The proxy VM's daemon: Envoy's control plane, and the one who wakes and puts to sleep what stands behind it.

mod certificates;
pub mod daemon;
mod desk;
mod front;
#[cfg(test)]
mod histories;
mod judge;
pub(crate) mod kernel;
mod meter;
mod prober;
pub(crate) mod records;
mod report;
mod rule_files;
mod state;
pub(crate) mod unverified;
mod web;
mod worker;
