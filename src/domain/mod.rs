//! The pure core: what a rule is, what was seen of it, and what to do next. No I/O, no clock; time is an argument.

pub mod matching;
