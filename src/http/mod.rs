//! ALB events in, answers out.

pub mod answer;
pub mod cors;
pub mod event;
pub mod nobody;
pub mod press;
pub mod redirect;
pub mod who;
