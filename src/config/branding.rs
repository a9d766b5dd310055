//! What an operator may change about the pages: a logo, a colour, a message. Checked here, shown by `page`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Checked on the way in, so that a page can show it without a second thought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branding {
    /// A data URI of an image.
    pub(crate) logo: Option<String>,
    pub(crate) colour: Option<Colour>,
    pub(crate) message: Option<String>,
}

impl Branding {
    /// The pages as they come.
    pub const NONE: Branding = Branding {
        logo: None,
        colour: None,
        message: None,
    };
}

/// A colour of sRGB, eight bits a channel: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub(crate) [u8; 3]);

/// All variables of a function together may have 4 KB (Lambda developer guide, "Lambda quotas"), and a page 14 KB.
pub(super) const MAX_LOGO: usize = 3584;
pub(super) const MAX_MESSAGE: usize = 500;

pub(super) const LOGO_ALLOWED: &str = "a whole PNG, JPEG, GIF, WebP or SVG image (an SVG with its xmlns) as a data URI \
                                       in base64, such as data:image/png;base64,..., of at most 3584 characters";
pub(super) const COLOUR_ALLOWED: &str = "a colour as #rgb or #rrggbb";
pub(super) const MESSAGE_ALLOWED: &str = "a text of at most 500 characters";

/// A data URI that every browser shows as an image. Looking is better than believing: what is no image, or one that was
/// cut off when it was pasted, shows as a broken one to everybody but the operator.
pub(super) fn logo(uri: &str) -> Option<String> {
    let uri = uri.trim();
    let (kind, data) = uri.strip_prefix("data:")?.split_once(";base64,")?;
    let bytes = STANDARD.decode(data).ok().filter(|_| uri.len() <= MAX_LOGO)?;
    is_image(kind, &bytes).then(|| uri.to_owned())
}

/// Whether the bytes begin and end as a file of this type does. PNG: W3C PNG, 5.2 and 11.2.5; JPEG: ITU-T T.81, B.1; GIF:
/// GIF89a, 17 and 27; WebP: RFC 9649, 2.4; SVG: SVG 2, 5.1.
fn is_image(kind: &str, bytes: &[u8]) -> bool {
    let framed = |start: &[u8], end: &[u8]| bytes.starts_with(start) && bytes.ends_with(end);
    match kind {
        "image/png" => framed(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\0\0\0IEND\xaeB`\x82"),
        "image/jpeg" => framed(b"\xff\xd8\xff", b"\xff\xd9"),
        "image/gif" => framed(b"GIF87a", b";") || framed(b"GIF89a", b";"),
        "image/webp" => match bytes {
            [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P', ..] => {
                u32::from_le_bytes([*a, *b, *c, *d]) as usize == bytes.len() - 8
            }
            _ => false,
        },
        "image/svg+xml" => std::str::from_utf8(bytes).is_ok_and(|text| {
            let text = text.trim_start_matches('\u{feff}').trim();
            // Without its namespace an SVG is no image when it stands by itself.
            text.starts_with('<')
                && text.contains("<svg")
                && text.contains("http://www.w3.org/2000/svg")
                && text.ends_with("</svg>")
        }),
        _ => false,
    }
}

/// A text as it is; lines are kept.
pub(super) fn message(text: &str) -> Option<String> {
    let text = text.trim();
    (text.chars().count() <= MAX_MESSAGE).then(|| text.to_owned())
}

impl Colour {
    /// As `#rgb` or `#rrggbb`.
    pub fn parse(text: &str) -> Option<Colour> {
        let digits = text.trim().strip_prefix('#')?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(digits, 16).ok()?;
        let [_, r, g, b] = number.to_be_bytes();
        match digits.len() {
            6 => Some(Colour([r, g, b])),
            3 => Some(Colour([g & 15, b >> 4, b & 15].map(|nibble| nibble * 17))),
            _ => None,
        }
    }
}

/// As CSS writes it.
impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Colour([r, g, b]) = self;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const GIF: &str = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";
    const WEBP: &str = "data:image/webp;base64,UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==";

    fn svg(text: &str) -> String {
        format!("data:image/svg+xml;base64,{}", STANDARD.encode(text))
    }

    #[test]
    fn a_logo_must_be_a_whole_image() {
        let drawn = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><circle r='4'/></svg>\n";
        let declared = format!("<?xml version='1.0'?><!-- ours -->{drawn}");
        let jpeg = format!(
            "data:image/jpeg;base64,{}",
            STANDARD.encode(b"\xff\xd8\xff\xe0 and so on \xff\xd9")
        );
        for good in [
            PNG,
            GIF,
            WEBP,
            &jpeg,
            &svg(drawn),
            &svg(&declared),
            &format!(" {PNG}\n"),
        ] {
            assert_eq!(logo(good).as_deref(), Some(good.trim()), "{good}");
        }
        let bad = [
            "",
            "logo.png",
            "https://example.com/logo.png",
            "data:image/png,iVBORw0KGgo",
            "data:image/png;base64,",
            "data:image/png;base64,bm8gaW1hZ2U=",
            "data:image/png;base64,iVBORw0KGgo\"><script>",
            &PNG[..PNG.len() - 8],
            &PNG.replace("image/png", "text/html"),
            &PNG.replace("image/png", "image/gif"),
            &WEBP[..WEBP.len() - 8],
            &svg("<svg viewBox='0 0 8 8'></svg>"),
            &svg("<html xmlns='http://www.w3.org/1999/xhtml'></html>"),
            &svg(&drawn[..drawn.len() - 5]),
            &svg(&format!("{}</svg>", drawn.repeat(50))),
        ];
        for bad in bad {
            assert_eq!(logo(bad), None, "{bad}");
        }
    }

    #[test]
    fn colours_are_read_strictly() {
        assert_eq!(Colour::parse("#1af"), Some(Colour([0x11, 0xaa, 0xff])));
        assert_eq!(
            Colour::parse(" #10A0fF ").map(|c| c.to_string()).as_deref(),
            Some("#10a0ff")
        );
        for bad in [
            "", "#", "fff", "#ff", "#ffff", "#+ff", "#12345g", "red", "#fff;}", "#1234567",
        ] {
            assert_eq!(Colour::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_words_name_the_limits() {
        assert!(LOGO_ALLOWED.contains(&MAX_LOGO.to_string()) && MESSAGE_ALLOWED.contains(&MAX_MESSAGE.to_string()));
        assert_eq!(message(&"ä".repeat(MAX_MESSAGE)).map(|text| text.len()), Some(1000));
        assert_eq!(message(&"ä".repeat(MAX_MESSAGE + 1)), None);
    }
}
