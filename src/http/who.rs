//! Who asks, and whether that counts as somebody who wants the site: what never wakes is told apart before anything is
//! counted.

use ipnet::IpNet;

use super::event::AlbRequest;
use super::nobody;
use crate::domain::path::{self, Unwanted};
use crate::domain::policy::Policy;

/// What a request is, from the point of view of a sleeping rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The load balancer's own health check of the function.
    HealthCheck,
    /// The page asking how far things are.
    PagePoll,
    /// Something that fetches on nobody's behalf: a prefetch, a monitor, a crawler, a link preview.
    Nobody,
    /// A browser that navigates.
    Browser,
    /// Any other program.
    Program,
}

/// The page's own poll asks for this type.
pub const POLL_TYPE: &str = "application/vnd.autostopping+json";

/// Sorts a request.
pub fn asker(request: &AlbRequest) -> Asker {
    let agent = request.header("user-agent").unwrap_or_default();
    if agent == "ELB-HealthChecker/2.0" && request.header("x-forwarded-for").is_none() {
        return Asker::HealthCheck;
    }
    let accept = request.header("accept").unwrap_or_default().to_ascii_lowercase();
    if accept.contains(POLL_TYPE) {
        return Asker::PagePoll;
    }
    if is_ahead_of_time(request) || nobody::by_agent(agent).is_some() {
        return Asker::Nobody;
    }
    // What Java's HttpURLConnection says that it takes; no browser does (OpenJDK, `HttpURLConnection.java`, acceptString).
    let is_java = accept.starts_with("text/html, image/gif, image/jpeg, ");
    let reads = matches!(request.method.as_str(), "GET" | "HEAD" | "POST");
    if reads
        && accept.contains("text/html")
        && !is_java
        && !speaks_grpc(request)
        && !accept.contains("text/event-stream")
    {
        Asker::Browser
    } else {
        Asker::Program
    }
}

/// gRPC and gRPC-Web, which name themselves in the type of what they send.
pub fn speaks_grpc(request: &AlbRequest) -> bool {
    let kind = request.header("content-type").unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("application/grpc")
}

/// Whether a 307 would end the request instead of repeating it. To gRPC it is UNKNOWN, which nobody tries again, whereas a
/// 503 is UNAVAILABLE (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>). gRPC-Web goes through
/// the browser's fetch, which follows.
pub fn follows_no_redirect(request: &AlbRequest) -> bool {
    let kind = request.header("content-type").unwrap_or_default().to_ascii_lowercase();
    kind.starts_with("application/grpc") && !kind.starts_with("application/grpc-web")
}

/// A browser that fetches what may be looked at later. `Sec-Purpose` is the standard (Fetch, "Sec-Purpose"; values such as
/// `prefetch;prerender` and `prefetch;anonymous-client-ip` in Chromium's `preloading_headers.h`); `Purpose` is what Chromium
/// and Safari, `X-Purpose` what older Safari (`preview` for Top Sites), `X-Moz` what older Firefox send.
fn is_ahead_of_time(request: &AlbRequest) -> bool {
    let headers = ["sec-purpose", "purpose", "x-purpose", "x-moz"];
    let values = headers.iter().filter_map(|name| request.header(name));
    values.map(str::to_ascii_lowercase).any(|value| {
        ["prefetch", "prerender", "preview"]
            .iter()
            .any(|what| value.contains(what))
    })
}

/// Whether the peer may wake a rule with this list. An empty list means everybody; an unknown peer is nobody.
pub fn allowed(allow: &[IpNet], request: &AlbRequest) -> bool {
    allow.is_empty()
        || request
            .peer()
            .is_some_and(|peer| allow.iter().any(|net| net.contains(&peer)))
}

/// Whether this request's path leaves a sleeping rule asleep.
pub fn unwanted(policy: &Policy, request: &AlbRequest) -> Option<Unwanted> {
    path::unwanted(policy, nobody::usual_paths(), &request.path)
}
