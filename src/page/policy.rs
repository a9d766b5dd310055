//! The content security policy.
//!
//! The script and the styles are the same bytes in every page (what differs is in escaped attributes), so they are allowed by
//! their SHA-256. A nonce would need a random source, a value handed from the page to the header, and luck that no cache
//! repeats it; a hash needs none of these and lets nothing run that was not compiled in.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::Wake;
use super::branding::Branding;
use super::render::{CSS, JS};

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
        .accent
        .as_deref()
        .map(|accent| format!(" {}", source(accent)))
        .unwrap_or_default();
    // frame-ancestors: a site that shows itself in its own frame must see the page there, or it would never come back by itself.
    format!(
        "default-src 'none'; script-src {script}; style-src {style}{accent}; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action {form}; frame-ancestors 'self'; require-trusted-types-for 'script'"
    )
}

fn source(content: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(content.as_bytes())))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() {
                ALPHABET[digit] as char
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_rfc_4648() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in table {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_known_hash() {
        // The example of CSP Level 3, section 2.3.1 is alert('Hello, world.');
        assert_eq!(
            source("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }
}
