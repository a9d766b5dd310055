//! How many times a day requests may wake a rule.
//!
//! A day is a calendar day in UTC, not the last 24 hours: it takes two numbers to remember, and everybody can tell when the
//! next one begins.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::activity::floor;
use super::phase::Phase;
use super::record::Record;
use super::rule::Rule;
use super::seen::Wanted;
use super::time::{Timestamp, after};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The wakes by requests of one day. Commands and hands are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DailyWakes {
    /// Its first moment.
    day: Timestamp,
    count: u32,
}

impl DailyWakes {
    /// How many there have been on the day of `now`.
    pub fn on(&self, now: Timestamp) -> u32 {
        if self.day == floor(now, DAY) { self.count } else { 0 }
    }

    /// With one more; none when there are `most` already.
    #[must_use]
    pub fn one_more(self, now: Timestamp, most: u32) -> Option<Self> {
        let count = self.on(now);
        (count < most).then(|| DailyWakes {
            day: floor(now, DAY),
            count: count + 1,
        })
    }
}

/// When requests can wake this rule again; none when they can now.
pub fn used_up(now: Timestamp, rule: &Rule, record: &Record) -> Option<Timestamp> {
    let most = rule.policy.wakes_per_day?;
    let stopped = record.last_stop.is_some_and(|stop| stop >= record.wanted_since);
    let at_rest = matches!(record.snapshot.phase, Phase::Asleep | Phase::Misconfigured(_));
    if record.wanted == Wanted::Asleep && !stopped && !at_rest {
        // Who comes before the stop brings it back, which is no wake: `plan` judges, as it sees the machines.
        return None;
    }
    let left = record.woken_today.one_more(now, most);
    left.is_none().then(|| after(floor(now, DAY), DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_count_ends_with_the_day() {
        let evening = at("2026-03-28T23:59:59.5Z");
        let one = DailyWakes::default().one_more(evening, 2).unwrap();
        let two = one.one_more(evening, 2).unwrap();
        assert_eq!((two.on(evening), two.one_more(evening, 2)), (2, None));
        let morning = at("2026-03-29T00:00:00Z");
        assert_eq!(two.on(morning), 0);
        assert_eq!(two.one_more(morning, 2).unwrap().on(morning), 1);
        assert_eq!(DailyWakes::default().one_more(evening, 0), None);
    }

    #[test]
    fn a_clock_that_goes_back_forgives_and_never_locks() {
        let two = DailyWakes {
            day: at("2026-03-29T00:00:00Z"),
            count: 2,
        };
        assert_eq!(two.on(at("2026-03-28T23:59:59Z")), 0);
    }
}
