//! A value with its recent past, so that a describe can be answered as it was some seconds ago.

use std::collections::VecDeque;

use jiff::Timestamp;

/// More changes than this within one staleness window do not happen; the bound keeps a long demo small.
const KEPT: usize = 64;

/// The newest value of something and the values before it, each with the time it came to be.
#[derive(Debug, Clone)]
pub struct Past<T> {
    values: VecDeque<(Timestamp, T)>,
    changes: usize,
}

impl<T: Clone> Past<T> {
    /// A value that begins to exist at `now`.
    pub fn new(now: Timestamp, value: T) -> Self {
        Self {
            values: VecDeque::from([(now, value)]),
            changes: 0,
        }
    }

    /// The value becomes `value` at `now`.
    pub fn set(&mut self, now: Timestamp, value: T) {
        if self.values.len() == KEPT {
            self.values.pop_front();
        }
        self.values.push_back((now, value));
        self.changes += 1;
    }

    /// How often it has changed.
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// The values it has come to after so many changes, oldest first.
    pub fn since(&self, changes: usize) -> impl Iterator<Item = &T> {
        let new = self.changes.saturating_sub(changes).min(self.values.len());
        self.values.range(self.values.len() - new..).map(|(_, value)| value)
    }

    /// The newest value.
    pub fn latest(&self) -> &T {
        &self
            .values
            .back()
            .expect("a Past is born with one value and never emptied")
            .1
    }

    /// The value as it was at `at`; `None` when it did not exist yet.
    pub fn as_of(&self, at: Timestamp) -> Option<&T> {
        self.values
            .iter()
            .rev()
            .find(|(since, _)| *since <= at)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn answers_as_it_was() {
        let mut past = Past::new(at(10), "a");
        past.set(at(20), "b");
        assert_eq!(past.as_of(at(9)), None);
        assert_eq!(past.as_of(at(19)), Some(&"a"));
        assert_eq!(past.as_of(at(20)), Some(&"b"));
        assert_eq!(past.latest(), &"b");
        past.set(at(20), "c");
        assert_eq!(past.since(0).collect::<Vec<_>>(), [&"b", &"c"]);
        assert_eq!(past.since(past.changes()).count(), 0);
    }
}
