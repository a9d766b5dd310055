//! Who asks, and whether that counts as somebody who wants the site: what never wakes is told apart before anything is
//! counted.

use ipnet::IpNet;

use super::event::AlbRequest;

/// What a request is, from the point of view of a sleeping rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The load balancer's own health check of the function.
    HealthCheck,
    /// The page asking how far things are.
    PagePoll,
    /// Something that fetches on nobody's behalf: a prefetch, a monitor, a crawler, a favicon.
    Nobody,
    /// A browser that navigates.
    Browser,
    /// Any other program.
    Program,
}

/// The page's own poll asks for this type.
pub const POLL_TYPE: &str = "application/vnd.autostopping+json";

/// User agents of uptime monitors and crawlers, as part of the lower-cased header. Each is how the service documents
/// itself. An empty user agent is not among them: many programs send none.
const NOBODY: [&str; 20] = [
    "uptimerobot",                              // https://uptimerobot.com/help/locations/
    "pingdom.com_bot",                          // https://documentation.solarwinds.com/en/success_center/pingdom/
    "uptime-kuma",                              // https://github.com/louislam/uptime-kuma
    "statuscake",                               // https://www.statuscake.com/kb/
    "site24x7",                                 // https://www.site24x7.com/help/
    "betteruptime",                             // https://betterstack.com/docs/uptime/
    "better uptime bot",                        // https://betterstack.com/docs/uptime/
    "datadogsynthetics",                        // https://docs.datadoghq.com/synthetics/
    "newrelicpinger",                           // https://docs.newrelic.com/docs/synthetics/
    "googlestackdrivermonitoring-uptimechecks", // https://cloud.google.com/monitoring/uptime-checks
    "amazon-route53-health-check-service",      // https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/
    "blackbox exporter",                        // https://github.com/prometheus/blackbox_exporter
    "googlebot",   // https://developers.google.com/search/docs/crawling-indexing/overview-google-crawlers
    "bingbot",     // https://www.bing.com/webmasters/help/which-crawlers-does-bing-use-8c184ec0
    "duckduckbot", // https://duckduckgo.com/duckduckgo-help-pages/results/duckduckbot/
    "yandexbot",   // https://yandex.com/support/webmaster/robot-workings/check-yandex-robots.html
    "baiduspider", // https://help.baidu.com/question?prod_id=99
    "gptbot",      // https://platform.openai.com/docs/bots
    "claudebot",   // https://support.anthropic.com/en/articles/8896518
    "amazonbot",   // https://developer.amazon.com/amazonbot
];

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
    let purpose = ["sec-purpose", "purpose", "x-moz"]
        .iter()
        .filter_map(|name| request.header(name));
    let prefetch = purpose
        .map(str::to_ascii_lowercase)
        .any(|value| value.contains("prefetch") || value.contains("prerender"));
    let agent = agent.to_ascii_lowercase();
    if prefetch || is_asset_nobody_asked_for(&request.path) || NOBODY.iter().any(|known| agent.contains(known)) {
        return Asker::Nobody;
    }
    let reads = matches!(request.method.as_str(), "GET" | "HEAD" | "POST");
    if reads && accept.contains("text/html") && !speaks_grpc(request) && !accept.contains("text/event-stream") {
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

/// What browsers and crawlers fetch by themselves.
pub fn is_asset_nobody_asked_for(path: &str) -> bool {
    matches!(
        path,
        "/favicon.ico" | "/robots.txt" | "/apple-touch-icon.png" | "/apple-touch-icon-precomposed.png"
    )
}

/// Whether the peer may wake a rule with this list. An empty list means everybody; an unknown peer is nobody.
pub fn allowed(allow: &[IpNet], request: &AlbRequest) -> bool {
    allow.is_empty()
        || request
            .peer()
            .is_some_and(|peer| allow.iter().any(|net| net.contains(&peer)))
}
