//! Clients that know nothing of the proxy, before machines that sleep: the shipped daemon and a real Envoy.
#![cfg(feature = "proxy")]

#[path = "../proxy_daemon/mod.rs"]
mod proxy_daemon;

mod database;
mod restarts;
mod shell;
mod waits;
mod web;
