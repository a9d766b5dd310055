//! The proxy VM's daemon: Envoy's control plane, and the one who wakes and puts to sleep what stands behind it.

pub mod state;
