//! Wildcard patterns and regular expressions over bytes. Patterns come from an operator, texts from anybody: no pattern
//! takes more than pattern length times text length steps.

use regex::bytes::{Regex, RegexBuilder};

/// Memory one compiled regular expression may take. AWS allows 128 characters; `(\w{99}){99}` fits in those.
const REGEX_BYTES: usize = 1 << 20;

/// How letters compare. Only ASCII letters have two cases here: ALB compares visible ASCII only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Sensitive,
    Insensitive,
}

/// A wildcard pattern that covers the whole text: `*` is any number of characters, `?` exactly one.
#[derive(Clone, Debug)]
pub struct Glob {
    tokens: Vec<Token>,
    case: Case,
}

/// What one pattern of a host, path or header condition is.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Glob(Glob),
    Regex(Regex),
}

#[derive(Clone, Copy, Debug)]
enum Token {
    Byte(u8),
    One,
    Many,
}

impl Glob {
    /// A pattern in which `\` is an ordinary character: hosts, paths and headers.
    pub fn new(pattern: &str, case: Case) -> Self {
        Self {
            tokens: pattern.bytes().map(token).collect(),
            case,
        }
    }

    /// A pattern in which `\*` and `\?` (and, inferred, `\\`) are the characters themselves: query strings.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_QueryStringConditionConfig.html>
    pub fn with_escapes(pattern: &str, case: Case) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut bytes = pattern.bytes().peekable();
        while let Some(byte) = bytes.next() {
            let escaped = if byte == b'\\' {
                bytes.next_if(|next| matches!(next, b'*' | b'?' | b'\\'))
            } else {
                None
            };
            tokens.push(escaped.map_or_else(|| token(byte), Token::Byte));
        }
        Self { tokens, case }
    }

    /// Whether the pattern covers the whole text. On a mismatch only the last `*` is tried again, one byte further: an
    /// earlier `*` could not reach a match that the last one cannot, so the work is at most pattern times text.
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut at, mut next) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.tokens.get(next) {
                Some(Token::Many) => {
                    retry = Some((next + 1, at));
                    next += 1;
                }
                Some(&token) if self.takes(token, text[at]) => (at, next) = (at + 1, next + 1),
                _ => match retry {
                    Some((after_star, from)) => {
                        retry = Some((after_star, from + 1));
                        (at, next) = (from + 1, after_star);
                    }
                    None => return false,
                },
            }
        }
        self.tokens[next..].iter().all(|token| matches!(token, Token::Many))
    }

    fn takes(&self, token: Token, byte: u8) -> bool {
        match (token, self.case) {
            (Token::One, _) => true,
            (Token::Byte(wanted), Case::Sensitive) => wanted == byte,
            (Token::Byte(wanted), Case::Insensitive) => wanted.eq_ignore_ascii_case(&byte),
            (Token::Many, _) => false,
        }
    }
}

impl Pattern {
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Compiles a regular expression, which may match anywhere in the text unless it has anchors (inferred: AWS's own samples
/// carry `^` and `$`, and say nothing of an implied anchor). The error is a reason to show to its author.
///
/// AWS does not name the engine. It names what is not supported (lookaround, backreferences, atomic groups, possessive
/// quantifiers, subroutines, recursion, `\p{..}`), which is what a linear-time engine leaves out:
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-rules.html>. What this crate would read
/// differently from the usual engines is refused rather than read its way.
pub(super) fn regex(pattern: &str, case: Case) -> Result<Regex, String> {
    if let Some(reason) = dialect(pattern) {
        return Err(reason.to_owned());
    }
    RegexBuilder::new(pattern)
        .case_insensitive(case == Case::Insensitive)
        .unicode(false)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
        .map_err(|error| last_line(&error.to_string()))
}

/// Syntax that this crate accepts with another meaning than the engines AWS may use.
fn dialect(pattern: &str) -> Option<&'static str> {
    let bytes = pattern.as_bytes();
    let mut in_class = false;
    let mut quantified = false;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let mut step = 1;
        let mut quantifier = false;
        match rest {
            [b'\\', b'<' | b'>', ..] => return Some("`\\<` and `\\>` mean different things in different engines"),
            [b'\\', b'b', b'{', ..] => return Some("`\\b{` means different things in different engines"),
            [b'\\', _, ..] => step = 2,
            [b'[', b':', ..] if in_class => {}
            [b'[', ..] if in_class => return Some("`[` inside a character class must be written `\\[`"),
            [b'&', b'&', ..] | [b'-', b'-', ..] | [b'~', b'~', ..] if in_class => {
                return Some("`&&`, `--` and `~~` inside a character class mean different things in different engines");
            }
            [b':', b']', ..] if in_class => step = 2,
            [b']', ..] => in_class = false,
            _ if in_class => {}
            [b'[', rest @ ..] => {
                in_class = true;
                // A `]` that comes first is a member of the class.
                step += usize::from(rest.first() == Some(&b'^'));
                step += usize::from(bytes.get(at + step) == Some(&b']'));
            }
            [b'+', ..] if quantified => return Some("possessive quantifiers are not supported by AWS"),
            [b'*' | b'{', ..] if quantified => {
                return Some("a repeated quantifier means different things in different engines");
            }
            [b'{', b',', ..] => return Some("`{,` means different things in different engines"),
            [b'(', b'?', flags @ ..] => {
                step = 2;
                let flags = flags
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-');
                if flags.clone().any(|flag| matches!(flag, b'x' | b'R' | b'U' | b'u'))
                    && bytes.get(at + 2) != Some(&b'P')
                {
                    return Some("the flags x, R, U and u mean different things in different engines");
                }
            }
            [b'*' | b'+' | b'?' | b'}', ..] => quantifier = true,
            _ => {}
        }
        quantified = quantifier;
        at += step;
    }
    None
}

/// The crate's errors repeat the pattern above the reason.
fn last_line(error: &str) -> String {
    error
        .lines()
        .last()
        .unwrap_or(error)
        .trim_start_matches("error: ")
        .to_owned()
}

fn token(byte: u8) -> Token {
    match byte {
        b'*' => Token::Many,
        b'?' => Token::One,
        other => Token::Byte(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_that_engines_read_differently_is_refused() {
        for pattern in [
            r"\<a",
            r"\ba\b{start}",
            "[a[b]",
            "[a&&b]",
            "[a--b]",
            "[a~~b]",
            "a++",
            "a*+",
            "a?+",
            "a{2}+",
            "a**",
            "a+{2}",
            "a{,3}",
            "(?x)a b",
            "(?U)a",
            "(?-u)a",
            "[]a[]",
            "[^][]",
        ] {
            assert!(dialect(pattern).is_some(), "{pattern} was accepted");
        }
        for pattern in [
            r"^(.*)\.example\.com$",
            r"^\/api\/(.*)$",
            ".+",
            r"[[:alpha:]]+",
            r"a\++",
            r"[\]]+",
            "a+?",
            "a{2,3}",
            "[]]+",
            "(?:a|b)+",
            "(?i)a",
            "(?P<name>a)",
            "(?<name>a)",
            "[+*?]+",
            "(?:x)",
        ] {
            assert!(
                regex(pattern, Case::Sensitive).is_ok(),
                "{pattern}: {:?}",
                regex(pattern, Case::Sensitive)
            );
        }
    }

    #[test]
    fn what_aws_does_not_support_is_refused() {
        for pattern in [
            "(?=a)",
            "(?<!a)",
            r"(a)\1",
            "(?>a)",
            "a++",
            "(?1)",
            "(?R)",
            r"\p{L}",
            r"(\w{99}){99}{99}",
            "(",
        ] {
            assert!(regex(pattern, Case::Sensitive).is_err(), "{pattern} was accepted");
        }
    }

    #[test]
    fn many_stars_on_a_hostile_text_stay_cheap() {
        let glob = Glob::new(&"*a".repeat(60), Case::Sensitive);
        assert!(!glob.matches(&[b'a'; 16_000].iter().copied().chain([b'b']).collect::<Vec<_>>()));
    }
}
