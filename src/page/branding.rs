//! What an operator may change about the page: a logo, a colour, a message.

use std::fmt::Write as _;

/// Checked on the way in, so that a page can show it without a second thought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branding {
    pub(super) logo: Option<String>,
    pub(super) message: Option<String>,
    /// A style sheet of one or two lines: the colour as it may be shown on the light and on the dark page.
    pub(super) accent: Option<String>,
}

/// What is wrong with a value, named by the value; the caller knows its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrandingError {
    #[error("a data URI of a PNG, JPEG, GIF, WebP or SVG image in base64, at most 64 KiB")]
    Logo,
    #[error("a colour as #rgb or #rrggbb")]
    Colour,
    #[error("a text of at most 500 characters")]
    Message,
}

const MAX_LOGO: usize = 64 * 1024;
const MAX_MESSAGE: usize = 500;

/// Each type with the ways in which the base64 of such a file begins. Looking is better than believing: a logo that is no
/// image shows as a broken one to everybody but the operator.
const IMAGES: [(&str, &[&str]); 5] = [
    ("image/png", &["iVBORw0KGgo"]),
    ("image/jpeg", &["/9j/"]),
    ("image/gif", &["R0lGODdh", "R0lGODlh"]),
    ("image/webp", &["UklGR"]),
    ("image/svg+xml", &["PHN2Z", "PD94bW", "PCEtL", "PCFET0NUWVBF"]),
];

/// The grounds that text and bar in the accent colour stand on; the same as in the style sheet.
const LIGHT_CARD: Rgb = Rgb([0xff, 0xff, 0xff]);
const DARK_CARD: Rgb = Rgb([0x1a, 0x1a, 0x1e]);
/// WCAG 2.2, 1.4.3: what text needs; more than the 3 that a bar needs (1.4.11).
const CONTRAST: f32 = 4.5;

impl Branding {
    /// Empty values count as absent. All errors at once.
    pub fn parse(
        logo: Option<&str>,
        colour: Option<&str>,
        message: Option<&str>,
    ) -> Result<Branding, Vec<BrandingError>> {
        let given = |value: Option<&str>| {
            value
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let (logo, colour, message) = (given(logo), given(colour), given(message));
        let mut errors = Vec::new();
        if logo.as_deref().is_some_and(|logo| !is_image(logo)) {
            errors.push(BrandingError::Logo);
        }
        let colour = match colour.as_deref().map(Rgb::parse) {
            Some(None) => {
                errors.push(BrandingError::Colour);
                None
            }
            Some(colour) => colour,
            None => None,
        };
        if message
            .as_deref()
            .is_some_and(|message| message.chars().count() > MAX_MESSAGE)
        {
            errors.push(BrandingError::Message);
        }
        if errors.is_empty() {
            Ok(Branding {
                logo,
                message,
                accent: colour.map(accent),
            })
        } else {
            Err(errors)
        }
    }
}

fn is_image(uri: &str) -> bool {
    let Some((kind, data)) = uri.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) else {
        return false;
    };
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    uri.len() <= MAX_LOGO
        && data.bytes().all(base64)
        && IMAGES
            .iter()
            .any(|(name, starts)| kind == *name && starts.iter().any(|start| data.starts_with(start)))
}

/// Only the neutral moods take the operator's colour: green for ready and red for failed keep their meaning.
fn accent(colour: Rgb) -> String {
    let light = colour.readable_on(LIGHT_CARD, 0x00);
    let dark = colour.readable_on(DARK_CARD, 0xff);
    let mut css = String::new();
    let _ = write!(css, ":root{{--accent:{light};--sun:{light}}}");
    let _ = write!(
        css,
        "@media (prefers-color-scheme:dark){{:root{{--accent:{dark};--sun:{dark}}}}}"
    );
    css
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rgb([u8; 3]);

impl std::fmt::Display for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rgb([r, g, b]) = self;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

impl Rgb {
    fn parse(text: &str) -> Option<Rgb> {
        let digits = text.strip_prefix('#')?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(digits, 16).ok()?;
        let [_, r, g, b] = number.to_be_bytes();
        match digits.len() {
            6 => Some(Rgb([r, g, b])),
            3 => Some(Rgb([g & 15, b >> 4, b & 15].map(|nibble| nibble * 17))),
            _ => None,
        }
    }

    /// This colour, moved towards black or white just as far as it takes to be read.
    fn readable_on(self, ground: Rgb, towards: u8) -> Rgb {
        (0..=20u16)
            .map(|step| {
                Rgb(self
                    .0
                    .map(|channel| ((u16::from(channel) * (20 - step) + u16::from(towards) * step) / 20) as u8))
            })
            .find(|colour| colour.contrast(ground) >= CONTRAST)
            .unwrap_or(Rgb([towards; 3]))
    }

    /// WCAG 2.2, "contrast ratio".
    fn contrast(self, other: Rgb) -> f32 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn luminance(self) -> f32 {
        let [r, g, b] = self.0.map(|channel| {
            let c = f32::from(channel) / 255.0;
            if c <= 0.04045 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==";

    #[test]
    fn a_logo_must_be_an_image() {
        for good in [
            PNG,
            "data:image/svg+xml;base64,PHN2ZyB4bWxucz0i",
            "data:image/jpeg;base64,/9j/4AAQ",
        ] {
            assert!(Branding::parse(Some(good), None, None).is_ok(), "{good}");
        }
        let bad = [
            "https://example.com/logo.png",
            "data:text/html;base64,PHN2ZyB4bWxucz0i",
            "data:image/png;base64,R0lGODlh",
            "data:image/png,iVBORw0KGgo",
            "data:image/png;base64,iVBORw0KGgo\"><script>",
            "logo.png",
        ];
        for bad in bad {
            assert_eq!(
                Branding::parse(Some(bad), None, None),
                Err(vec![BrandingError::Logo]),
                "{bad}"
            );
        }
        let huge = format!("{PNG}{}", "A".repeat(MAX_LOGO));
        assert_eq!(Branding::parse(Some(&huge), None, None), Err(vec![BrandingError::Logo]));
    }

    #[test]
    fn every_error_is_told_at_once_and_empty_means_absent() {
        let errors = Branding::parse(Some("x"), Some("red"), Some(&"x".repeat(501)));
        assert_eq!(
            errors,
            Err(vec![BrandingError::Logo, BrandingError::Colour, BrandingError::Message])
        );
        assert_eq!(Branding::parse(Some(""), Some(" "), Some("")), Ok(Branding::default()));
    }

    #[test]
    fn colours_are_read_strictly() {
        assert_eq!(Rgb::parse("#1af"), Some(Rgb([0x11, 0xaa, 0xff])));
        assert_eq!(Rgb::parse("#10A0fF"), Some(Rgb([0x10, 0xa0, 0xff])));
        for bad in [
            "", "#", "fff", "#ff", "#ffff", "#+ff", "#12345g", "red", "#fff;}", "#1234567",
        ] {
            assert_eq!(Rgb::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_colour_becomes_readable_on_both_grounds() {
        for r in (0..=255).step_by(51) {
            for g in (0..=255).step_by(51) {
                for b in (0..=255).step_by(51) {
                    let colour = Rgb([r, g, b]);
                    assert!(
                        colour.readable_on(LIGHT_CARD, 0).contrast(LIGHT_CARD) >= CONTRAST,
                        "{colour}"
                    );
                    assert!(
                        colour.readable_on(DARK_CARD, 255).contrast(DARK_CARD) >= CONTRAST,
                        "{colour}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_grounds_are_those_of_the_style_sheet() {
        for ground in [LIGHT_CARD, DARK_CARD] {
            let short = ground.to_string().replace("#ffffff", "#fff");
            assert!(
                super::super::render::CSS.contains(&format!("--card:{short};")),
                "{ground}"
            );
        }
    }
}
