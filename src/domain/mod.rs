//! The pure core: what a rule is, what was seen of it, and what to do next. No I/O, no clock; time is an argument.
//!
//! [`plan`](plan::plan) decides, [`outcome::applied`] notes what became of an action, and [`record::Record`] is all that
//! has to be remembered between two looks.

pub mod account;
pub mod activity;
pub mod fault;
pub mod idle;
mod look;
pub mod matching;
pub mod outcome;
pub mod path;
pub mod phase;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod record;
pub mod rest;
pub mod rule;
pub mod seen;
pub mod table;
pub mod time;
pub mod today;
mod transitions;
mod wish;
