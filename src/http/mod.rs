//! ALB events in, answers out.

pub mod answer;
pub mod cors;
pub mod event;
pub mod redirect;
pub mod who;
