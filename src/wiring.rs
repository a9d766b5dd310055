//! From the environment to a function or a driver with its adapters.
