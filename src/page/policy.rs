//! The content security policy.
//!
//! The script and the styles are the same bytes in every page (what differs is in escaped attributes), so they are allowed by
//! their SHA-256. A nonce would need a random source, a value handed from the page to the header, and luck that no cache
//! repeats it; a hash needs none of these and lets nothing run that was not compiled in.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::render::{CSS, JS};
use super::{Wake, accent};
use crate::config::branding::Branding;

static SCRIPT: LazyLock<String> = LazyLock::new(|| source(JS));
static STYLE: LazyLock<String> = LazyLock::new(|| source(CSS));

/// The value of the header `Content-Security-Policy` for every page of this module. A form can be sent from the one with a
/// button alone.
pub fn content_security_policy(branding: &Branding, wake: Wake) -> String {
    let form = match wake {
        Wake::Press => "'self'",
        Wake::Link | Wake::Not => "'none'",
    };
    let (script, style) = (&*SCRIPT, &*STYLE);
    let accent = branding
        .colour
        .map(|colour| format!(" {}", source(&accent::css(colour))))
        .unwrap_or_default();
    // frame-ancestors: a site that shows itself in its own frame must see the page there, or it would never come back by itself.
    format!(
        "default-src 'none'; script-src {script}; style-src {style}{accent}; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action {form}; frame-ancestors 'self'; require-trusted-types-for 'script'"
    )
}

fn source(content: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_hash() {
        // The example of CSP Level 3, section 2.3.1 is alert('Hello, world.');
        assert_eq!(
            source("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }
}
