//! The texts a condition is compared with, in each form that AWS's documentation leaves possible.

use std::borrow::Cow;

/// The Host header in its two forms, as sent and without a port; a pattern that meets either is taken to match (inferred).
/// A wildcard pattern cannot hold a `:`, so its author meant the name; a regular expression can name a port
/// (<https://github.com/hashicorp/terraform-provider-aws/issues/49147>); and ALB adds its own port to the Host that targets
/// see unless told not to (<https://repost.aws/questions/QUbdKVqaj4TKSZJdPWPZG1Ow>), so from there it is not known what was
/// sent.
pub(super) fn hosts(host: &str) -> [&str; 2] {
    let after_address = host.rfind(']').map_or(0, |bracket| bracket + 1);
    let bare = match host[after_address..].rfind(':') {
        Some(colon)
            if host[after_address + colon + 1..]
                .bytes()
                .all(|byte| byte.is_ascii_digit()) =>
        {
            &host[..after_address + colon]
        }
        _ => host,
    };
    [host, bare]
}

/// A path as sent, and as it is after URI normalization (RFC 3986, 6.2.2) with and without merged slashes. AWS says that
/// it normalizes before it compares, not how: <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html#path-conditions>
pub(super) fn paths(path: &str) -> Vec<Cow<'_, [u8]>> {
    let mut forms = Vec::with_capacity(1);
    for form in visible(path) {
        if form.contains(&b'%') || form.windows(2).any(|pair| pair == b"//" || pair == b"/.") {
            let normal = without_dot_segments(&with_plain_escapes(&form));
            let mut merged = normal.clone();
            merged.dedup_by(|next, last| *next == b'/' && *last == b'/');
            forms.extend([Cow::Owned(normal), Cow::Owned(merged)]);
        }
        forms.push(form);
    }
    forms
}

/// A path as a lenient server may read it: every escape undone once, `\` taken for `/`, dot segments resolved, slashes
/// merged. For judging what somebody is after; two paths that are not the same can come out the same.
pub(in crate::domain) fn resolved(path: &str) -> Vec<u8> {
    let mut plain = unescape(path.as_bytes(), |_| true);
    plain
        .iter_mut()
        .filter(|byte| **byte == b'\\')
        .for_each(|byte| *byte = b'/');
    // Before the dots: in `/a//..` it is the `a` that goes.
    plain.dedup_by(|next, last| *next == b'/' && *last == b'/');
    without_dot_segments(&plain)
}

/// A key or value of a query as sent and with its percent escapes undone. AWS says that any character can be escaped, not
/// whether escapes are undone before comparing.
pub(super) fn query_texts(text: &str) -> Vec<Cow<'_, [u8]>> {
    let mut forms = visible(text);
    if text.contains('%') {
        forms.push(Cow::Owned(unescape(text.as_bytes(), |_| true)));
    }
    forms
}

/// A text as sent and without what is not visible ASCII, which AWS says is excluded, not how. A tab counts as excluded, a
/// space does not: AWS allows it in patterns for header values.
pub(super) fn visible(text: &str) -> Vec<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    let mut forms = vec![Cow::Borrowed(bytes)];
    if !bytes.iter().all(is_visible) {
        forms.push(Cow::Owned(bytes.iter().copied().filter(is_visible).collect()));
    }
    forms
}

fn is_visible(byte: &u8) -> bool {
    (0x20..0x7f).contains(byte)
}

/// Escapes of unreserved characters are undone, the others get upper-case digits (RFC 3986, 6.2.2.1 and 6.2.2.2).
fn with_plain_escapes(path: &[u8]) -> Vec<u8> {
    unescape(path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn unescape(text: &[u8], undone: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at..] {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let byte = hex(high) << 4 | hex(low);
                if undone(byte) {
                    out.push(byte);
                } else {
                    out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
                }
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// RFC 3986, 5.2.4, for a path that starts with `/`; any other is returned as it is.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let Some(rest) = path.strip_prefix(b"/") else {
        return path.to_vec();
    };
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = rest.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop();
                }
                if segments.peek().is_none() {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str) -> String {
        String::from_utf8(without_dot_segments(&with_plain_escapes(path.as_bytes()))).unwrap()
    }

    #[test]
    fn paths_normalize_as_in_rfc_3986() {
        for (path, wanted) in [
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/%61%2f%2e%2e%7e", "/a%2F..~"),
            ("/a/%2e%2e/b", "/b"),
            ("/%zz%4", "/%zz%4"),
            ("/.well-known/x", "/.well-known/x"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(normal(path), wanted, "{path}");
        }
    }

    #[test]
    fn only_a_port_is_cut_from_a_host() {
        for (host, bare) in [
            ("example.com", "example.com"),
            ("example.com:8443", "example.com"),
            ("example.com:", "example.com"),
            ("example.com:http", "example.com:http"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("", ""),
            (":", ""),
        ] {
            assert_eq!(hosts(host), [host, bare]);
        }
    }
}
