//! Which paths wake a rule.
//!
//! A path is compared as a lenient server reads it (`/%2Eenv`, `/a/../.env`, `//.env` and `\.env` are all `/.env`), by whole
//! segments (`/app` is the beginning of `/app` and `/app/x`, not of `/apple`; `/app/` only of what is below) and with its
//! case. Of the prefixes that fit, the longest decides, as in robots.txt (RFC 9309, 2.2.2); so `/app` can wake while
//! `/app/health` does not, and the reverse. An owner's word goes before the usual list when both are equally long.

use std::fmt;

use super::matching::text::resolved;
use super::policy::Policy;

/// A beginning of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix {
    text: String,
    /// It may end within a segment.
    open: bool,
}

/// Why a path does not wake a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// The rule's owner named it as one that never does.
    Never,
    /// The owner named others.
    NotNamed,
    /// Browsers, crawlers and scanners ask for it of any site, and nobody said that this one has it.
    Usual,
}

impl PathPrefix {
    /// None for what no path of a request could resolve to.
    pub fn new(text: &str) -> Option<Self> {
        let plain = !text.contains(['%', '?', '#', '*', '\\']) && !text.contains(char::is_control);
        let whole = text.starts_with('/') && resolved(text) == text.as_bytes();
        (plain && whole).then(|| PathPrefix {
            text: text.to_owned(),
            open: false,
        })
    }

    /// As `new`; a `*` at its end says that it may end within a segment. Tags cannot hold one.
    pub fn with_star(text: &str) -> Option<Self> {
        let bare = text.strip_suffix('*');
        PathPrefix::new(bare.unwrap_or(text)).map(|prefix| PathPrefix {
            open: bare.is_some(),
            ..prefix
        })
    }

    fn begins(&self, path: &[u8]) -> bool {
        let whole = |rest: &[u8]| rest.is_empty() || rest[0] == b'/' || self.text.ends_with('/');
        path.strip_prefix(self.text.as_bytes())
            .is_some_and(|rest| self.open || whole(rest))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a request for this path leaves a sleeping rule asleep. `usual` is what is never wanted unless the owner says so;
/// it is in lower case, and compared without regard to case.
pub fn unwanted(policy: &Policy, usual: &[PathPrefix], path: &str) -> Option<Unwanted> {
    let path = resolved(path);
    let longest = |prefixes: &[PathPrefix], path: &[u8]| {
        let fitting = prefixes.iter().filter(|prefix| prefix.begins(path));
        fitting.map(|prefix| prefix.text.len()).max()
    };
    let wakes = longest(&policy.wake_paths, &path);
    let never = longest(&policy.never_wake_paths, &path);
    let usual = longest(usual, &path.to_ascii_lowercase());
    if never.is_some() && never >= wakes.max(usual) {
        Some(Unwanted::Never)
    } else if usual > wakes {
        Some(Unwanted::Usual)
    } else if wakes.is_none() && !policy.wake_paths.is_empty() {
        Some(Unwanted::NotNamed)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judged(wake: &[&str], never: &[&str], path: &str) -> Option<Unwanted> {
        let prefixes = |texts: &[&str]| texts.iter().map(|text| PathPrefix::new(text).unwrap()).collect();
        let policy = Policy {
            wake_paths: prefixes(wake),
            never_wake_paths: prefixes(never),
            ..Policy::new(Duration::from_secs(900), Duration::from_secs(300))
        };
        let usual = ["/.env*", "/wp-login.php"].map(|text| PathPrefix::with_star(text).unwrap());
        unwanted(&policy, &usual, path)
    }

    #[test]
    fn the_longest_prefix_decides() {
        use Unwanted::{Never, NotNamed, Usual};
        for (wake, never, path, expected) in [
            (&[][..], &[][..], "/", None),
            (&[], &[], "/.env", Some(Usual)),
            (&[], &[], "/.env.local", Some(Usual)),
            (&[], &[], "/app/.env", None),
            (&[], &[], "/WP-Login.php", Some(Usual)),
            (&[], &[], "/wp-login.phpx", None),
            (&[], &["/health"], "/health", Some(Never)),
            (&[], &["/health"], "/health/live", Some(Never)),
            (&[], &["/health"], "/healthy", None),
            (&[], &["/health"], "/Health", None),
            (&[], &["/health/"], "/health", None),
            (&["/app"], &[], "/app", None),
            (&["/app"], &[], "/apple", Some(NotNamed)),
            (&["/app"], &[], "/", Some(NotNamed)),
            (&["/app"], &["/app/health"], "/app/health", Some(Never)),
            (&["/app"], &["/app/health"], "/app/x", None),
            (&["/app/login"], &["/app"], "/app/login", None),
            (&["/app/login"], &["/app"], "/app/x", Some(Never)),
            // The owner of a real WordPress says so, and scanners for the rest still find nobody.
            (&["/", "/wp-login.php"], &[], "/wp-login.php", None),
            (&["/", "/wp-login.php"], &[], "/.env", Some(Usual)),
            (&["/", "/wp-login.php"], &[], "/anything", None),
            (&["/"], &[], "/wp-login.php", Some(Usual)),
            (&[], &["/"], "/", Some(Never)),
        ] {
            assert_eq!(
                judged(wake, never, path),
                expected,
                "wake {wake:?} never {never:?}: {path}"
            );
        }
    }

    #[test]
    fn a_hostile_path_is_judged_by_what_it_comes_to() {
        for path in [
            "/%2eenv",
            "/%2E%65nv",
            "/a/../.env",
            "/a/%2e%2e/.env",
            "/a/..%2f.env",
            "/a\\..\\.env",
            "//.env",
            "/a//../.env",
            "/./.env",
            "/../../.env",
            "/.EnV",
            "/.env/",
            "/.env%00",
        ] {
            assert_eq!(judged(&[], &[], path), Some(Unwanted::Usual), "{path}");
            assert!(judged(&["/a"], &[], path).is_some(), "{path}");
        }
        // Undone once: what is left is the name of a file with a percent sign in it.
        assert_eq!(judged(&[], &[], "/%252eenv"), None);
        for odd in ["", "no-slash", "*", "/%", "/%zz", "/\u{0}"] {
            assert_eq!(judged(&[], &[], odd), None, "{odd:?}");
        }
    }

    #[test]
    fn what_no_path_comes_to_is_no_prefix() {
        for right in ["/", "/app", "/app/", "/a.b_c:d=e+f-g@h", "/ä"] {
            assert!(PathPrefix::new(right).is_some(), "{right}");
        }
        for wrong in [
            "", "app", "//", "/a//b", "/a/../b", "/a/.", "/a%20b", "/a?b", "/a#b", "/a*", "/a\\b", "/a\u{7}",
        ] {
            assert!(PathPrefix::new(wrong).is_none(), "{wrong:?}");
        }
    }
}
