//! Reading single values; shared by everything that is configured.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A duration with its unit, such as `90s`, `5m` or `1h 30m`. A bare number has no unit and is not one, `0` neither.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
    let text = text.trim();
    let bare = text.bytes().all(|byte| byte.is_ascii_digit());
    let duration = humantime::parse_duration(text).ok().filter(|_| !bare)?;
    range.contains(&duration).then_some(duration)
}

/// What [`duration`] accepts, in words.
pub(super) fn allowed_durations(range: &RangeInclusive<Duration>) -> String {
    let short = |duration: &Duration| match duration.as_secs() {
        // humantime would write `1day`, which reads odd beside the documented `24h`.
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        _ => humantime::format_duration(*duration).to_string(),
    };
    format!(
        "a duration with its unit, such as 90s or 5m, from {} to {}",
        short(range.start()),
        short(range.end())
    )
}

/// A number in plain digits.
pub(super) fn number<T: std::str::FromStr + PartialOrd>(text: &str, range: &RangeInclusive<T>) -> Option<T> {
    let text = text.trim();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits)?;
    range.contains(&number).then_some(number)
}

/// What [`number`] accepts, in words.
pub(super) fn allowed_numbers<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("a number from {} to {}", range.start(), range.end())
}

/// The known word that was probably meant: at most two slips away, and less than half of it.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), *candidate))
        .filter(|(slips, candidate)| *slips <= 2 && slips * 2 < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn durations_need_a_unit() {
        let table = [
            ("5m", Some(300)),
            (" 90s ", Some(90)),
            ("1h 30m", Some(5400)),
            ("1h30m", Some(5400)),
            ("0s", Some(0)),
            ("0", None),
            ("300", None),
            ("", None),
            (" ", None),
            ("-5m", None),
            ("5 minutes please", None),
            ("99999999999999999999h", None),
        ];
        for (text, seconds) in table {
            assert_eq!(duration(text, &ANY), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn ranges_include_their_ends_and_are_told_in_the_same_words() {
        let range = Duration::from_secs(300)..=Duration::from_secs(86400);
        assert!(duration("5m", &range).is_some() && duration("24h", &range).is_some());
        assert!(duration("299s", &range).is_none() && duration("24h 1s", &range).is_none());
        assert!(allowed_durations(&range).ends_with("from 5m to 24h"));
    }

    #[test]
    fn numbers_are_plain_digits() {
        for (text, value) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("+7", None),
            ("-7", None),
            ("", None),
            ("8", None),
        ] {
            assert_eq!(number::<u8>(text, &(0..=7)), value, "{text:?}");
        }
        assert_eq!(number::<u8>("256", &(0..=255)), None);
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["idle", "hold", "healthy"];
        for (word, meant) in [
            ("idel", Some("idle")),
            ("Idle", Some("idle")),
            ("helthy", Some("healthy")),
            ("bold", Some("hold")),
            ("schedule", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word:?}");
        }
    }
}
