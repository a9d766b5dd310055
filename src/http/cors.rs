//! What a script of another origin gets to read, and the preflight that browsers send before they let it ask.
//!
//! Protocol: <https://fetch.spec.whatwg.org/#http-cors-protocol>. Whose script it is, is told by `Sec-Fetch-Site`
//! (<https://www.w3.org/TR/fetch-metadata/>), which no script can set; browsers send it to `https` and `localhost` alone.
//!
//! A preflight wakes nothing: the request that follows it does. Our answers depend on no cookie, so a script may read
//! them with credentials; what is read says that the rule sleeps and for how long. Why something failed is told to scripts
//! of the same site alone, since such a reason may name machines, roles and accounts.
//!
//! What a preflight allows is more delicate. The request that follows may reach the machine, when the routes are flipped
//! between the two, and then our word has stood in for the site's own. So nothing may be remembered (a max-age of 0), and
//! a page of another site may ask by GET and HEAD alone, which change nothing and which it could send without asking.

use super::event::AlbRequest;
use super::press::without_port;

/// The headers of ours that a script may read.
pub const EXPOSED: &str = "retry-after, x-autostopping-phase";

/// What answers that are no page differ by.
pub const VARY: &str = "accept, origin, sec-fetch-site, access-control-request-method, access-control-request-headers";

/// More header names than this, or longer ones, are no application's.
const MOST_HEADERS: usize = 50;
const LONGEST_NAME: usize = 100;
/// A host name has at most 253 characters.
const LONGEST_ORIGIN: usize = 300;

/// The script that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader<'r> {
    /// A serialised origin, or `null`.
    pub origin: &'r str,
    /// Whether its page is of the same site as the one asked for.
    pub same_site: bool,
}

/// What a preflight grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'r> {
    pub method: &'r str,
    /// Lower-case, joined by commas; empty when none was asked for.
    pub headers: String,
}

impl<'r> Reader<'r> {
    /// None when no browser says that a script asks.
    pub fn of(request: &'r AlbRequest) -> Option<Self> {
        let origin = request.header("origin").filter(|origin| is_origin(origin))?;
        let same_site = match request.header("sec-fetch-site") {
            Some(site) => matches!(site, "same-origin" | "same-site"),
            None => origin
                .split_once("://")
                .is_some_and(|(_, host)| without_port(host).eq_ignore_ascii_case(without_port(request.host()))),
        };
        Some(Reader { origin, same_site })
    }

    /// What this preflight may be granted.
    pub fn grant(self, request: &'r AlbRequest) -> Option<Grant<'r>> {
        let method = request.header("access-control-request-method")?;
        let granted = matches!(method, "GET" | "HEAD") || (self.same_site && is_token(method));
        let headers = request.header("access-control-request-headers").unwrap_or_default();
        let names = headers.split(',').map(str::trim).filter(|name| is_token(name));
        let names: Vec<String> = names.take(MOST_HEADERS).map(str::to_ascii_lowercase).collect();
        granted.then(|| Grant {
            method,
            headers: names.join(", "),
        })
    }
}

/// Whether a browser asks what it may ask. Without both headers an OPTIONS is a program's request like any other.
pub fn is_preflight(request: &AlbRequest) -> bool {
    request.method == "OPTIONS"
        && request.header("origin").is_some()
        && request.header("access-control-request-method").is_some()
}

/// RFC 6454, section 6.2; read strictly, since it is written back.
fn is_origin(text: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:[]+".contains(&b))
    };
    let whole = |(scheme, host): (&str, &str)| part(scheme) && part(host);
    text == "null" || (text.len() <= LONGEST_ORIGIN && text.split_once("://").is_some_and(whole))
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let odd = b"!#$%&'*+-.^_`|~";
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || odd.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(headers: &[(&str, &str)]) -> AlbRequest {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        AlbRequest {
            target_group: crate::domain::rule::GroupId(String::new()),
            method: "OPTIONS".to_owned(),
            path: "/".to_owned(),
            query: Vec::new(),
            headers: headers
                .chain([("host".to_owned(), "api.example.com:8080".to_owned())])
                .collect(),
            multi_value: false,
            is_our_form: false,
        }
    }

    #[test]
    fn what_is_no_origin_is_never_written_back() {
        for good in [
            "https://app.example.com",
            "http://[2001:db8::1]:81",
            "null",
            "app+x://a_b",
        ] {
            assert_eq!(Reader::of(&asks(&[("origin", good)])).map(|r| r.origin), Some(good));
        }
        let long = format!("https://{}", "a".repeat(LONGEST_ORIGIN));
        for bad in [
            "",
            "*",
            "https://",
            "a b://c",
            "https://a/",
            "https://a, https://b",
            "x://a\r\nb: c",
            &long,
        ] {
            assert_eq!(Reader::of(&asks(&[("origin", bad)])), None, "{bad}");
        }
        assert_eq!(Reader::of(&asks(&[])), None);
    }

    #[test]
    fn a_site_is_what_the_browser_says_it_is() {
        let same = |headers: &[(&str, &str)]| Reader::of(&asks(headers)).is_some_and(|reader| reader.same_site);
        let app = ("origin", "https://app.example.com");
        assert!(same(&[app, ("sec-fetch-site", "same-site")]));
        assert!(!same(&[app, ("sec-fetch-site", "cross-site")]));
        assert!(!same(&[
            ("origin", "http://api.example.com"),
            ("sec-fetch-site", "cross-site")
        ]));
        assert!(
            !same(&[app]),
            "without a browser's word nothing but the host itself is the same"
        );
        assert!(same(&[("origin", "http://API.example.com:3000")]));
        assert!(!same(&[("origin", "null")]));
    }

    #[test]
    fn another_site_may_only_read() {
        let grant = |site: &str, method: &str, headers: &str| {
            let request = asks(&[
                ("origin", "https://app.example.com"),
                ("sec-fetch-site", site),
                ("access-control-request-method", method),
                ("access-control-request-headers", headers),
            ]);
            let reader = Reader::of(&request).unwrap();
            reader
                .grant(&request)
                .map(|grant| format!("{} {}", grant.method, grant.headers))
        };
        assert_eq!(grant("same-site", "DELETE", "").as_deref(), Some("DELETE "));
        assert_eq!(grant("cross-site", "GET", "X-A").as_deref(), Some("GET x-a"));
        for method in ["POST", "PUT", "DELETE", "get", ""] {
            assert_eq!(grant("cross-site", method, "content-type"), None, "{method}");
        }
        let odd = "x-a, b\r\nc: d,, \u{e4},Content-Type , a b";
        assert_eq!(grant("same-site", "PUT", odd).as_deref(), Some("PUT x-a, content-type"));
        assert_eq!(grant("same-site", "A B", ""), None);
        let many = vec!["x"; 10_000].join(",");
        assert!(grant("same-site", "PUT", &many).is_some_and(|grant| grant.len() < 200));
    }

    #[test]
    fn only_what_a_browser_sends_is_a_preflight() {
        let method = ("access-control-request-method", "PUT");
        assert!(is_preflight(&asks(&[("origin", "https://a.example"), method])));
        assert!(!is_preflight(&asks(&[method])));
        assert!(!is_preflight(&asks(&[("origin", "https://a.example")])));
    }
}
