//! ALB events in, answers out.

pub mod answer;
pub mod event;
pub mod redirect;
pub mod who;
