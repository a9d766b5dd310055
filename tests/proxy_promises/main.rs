//! What is promised to those behind the proxy, with the shipped daemon and a real Envoy: cut-over, stopping, who may wake,
//! crowds.
#![cfg(feature = "proxy")]

#[path = "../proxy_daemon/mod.rs"]
mod proxy_daemon;

mod awake;
mod crowd;
mod cut_over;
mod stopping;
mod web;
mod who_may_wake;
