//! The operator's colour, made to stand out on either theme.

use crate::config::branding::Colour;

/// The grounds that bar and sun stand on; the same as in the style sheet.
const LIGHT: [Colour; 3] = [
    Colour([0xfb, 0xfc, 0xfd]),
    Colour([0xe9, 0xef, 0xf7]),
    Colour([0xdd, 0xe4, 0xf0]),
];
const DARK: [Colour; 3] = [
    Colour([0x0b, 0x10, 0x1c]),
    Colour([0x12, 0x1a, 0x2d]),
    Colour([0x0f, 0x15, 0x24]),
];
/// WCAG 2.2, 1.4.11: what a bar needs. No text is in this colour.
const BAR: f32 = 3.0;
/// The sun says nothing that the bar does not say, so it may stay nearer to the operator's own colour.
const DRAWING: f32 = 1.25;

/// A style sheet of two lines: the colour as it may be shown on the light and on the dark page. Only the neutral moods take
/// it: green for ready and red for failed keep their meaning.
pub(super) fn css(colour: Colour) -> String {
    let variables = |grounds: &[Colour], towards: u8| {
        let accent = shown_on(colour, grounds, towards, BAR);
        let sun = shown_on(colour, grounds, towards, DRAWING);
        format!(":root{{--accent:{accent};--sun:{sun}}}")
    };
    let (light, dark) = (variables(&LIGHT, 0x00), variables(&DARK, 0xff));
    format!("{light}@media (prefers-color-scheme:dark){{{dark}}}")
}

/// This colour, moved towards black or white just as far as it takes to stand out from all of the grounds.
fn shown_on(Colour(channels): Colour, grounds: &[Colour], towards: u8, least: f32) -> Colour {
    let mix = |channel: u8, step: u16| ((u16::from(channel) * (20 - step) + u16::from(towards) * step) / 20) as u8;
    (0..=20)
        .map(|step| Colour(channels.map(|channel| mix(channel, step))))
        .find(|colour| grounds.iter().all(|ground| contrast(*colour, *ground) >= least))
        .unwrap_or(Colour([towards; 3]))
}

/// WCAG 2.2, "contrast ratio".
pub(super) fn contrast(one: Colour, other: Colour) -> f32 {
    let (a, b) = (luminance(one), luminance(other));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// WCAG 2.2, "relative luminance".
fn luminance(Colour(channels): Colour) -> f32 {
    let [r, g, b] = channels.map(|channel| {
        let c = f32::from(channel) / 255.0;
        if c <= 0.04045 {
            c / 12.92
        } else {
            ((c + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render::CSS;

    #[test]
    fn contrast_agrees_with_wcag() {
        let [black, white, grey] = [0x00, 0xff, 0x77].map(|level| Colour([level; 3]));
        assert!((contrast(black, white) - 21.0).abs() < 0.01);
        // The best known near miss: #777 on white has 4.48.
        assert!((contrast(grey, white) - 4.48).abs() < 0.01);
    }

    #[test]
    fn any_colour_stands_out_from_every_ground() {
        let levels = || (0..=255u8).step_by(51);
        for (r, g, b) in levels().flat_map(|r| levels().flat_map(move |g| levels().map(move |b| (r, g, b)))) {
            let colour = Colour([r, g, b]);
            for (grounds, towards) in [(LIGHT, 0x00), (DARK, 0xff)] {
                let accent = shown_on(colour, &grounds, towards, BAR);
                assert!(
                    grounds.iter().all(|ground| contrast(accent, *ground) >= BAR),
                    "{colour}"
                );
            }
        }
    }

    /// WCAG 2.2, 1.4.3.
    const TEXT: f32 = 4.5;

    /// The values of a variable in the light and in the dark part of the style sheet.
    fn values(name: &str) -> [Vec<Colour>; 2] {
        let (light, rest) = CSS.split_once("@media (prefers-color-scheme:dark)").unwrap();
        let (dark, _) = rest.split_once("}}").unwrap();
        [light, dark].map(|part| {
            let name = format!("--{name}:#");
            let values = part.split(&name).skip(1);
            values
                .map(|rest| Colour::parse(&format!("#{}", &rest[..6])).unwrap())
                .collect()
        })
    }

    #[test]
    fn all_text_of_the_style_sheet_has_the_contrast_of_level_aa() {
        let (skies, grounds) = (values("sky"), values("ground"));
        for theme in 0..2 {
            assert_eq!(skies[theme].len(), 4, "one for each mood, two share one");
            for ink in ["ink", "soft"].map(|name| values(name)[theme][0]) {
                for ground in skies[theme].iter().chain(&grounds[theme]) {
                    assert!(contrast(ink, *ground) >= TEXT, "{ink} on {ground}");
                }
            }
            let accent = values("accent")[theme][0];
            assert!(
                skies[theme]
                    .iter()
                    .chain(&grounds[theme])
                    .all(|ground| contrast(accent, *ground) >= BAR)
            );
            for colour in ["good", "bad"].map(|name| values(name)[theme][0]) {
                assert!(contrast(colour, grounds[theme][0]) >= TEXT, "{colour}");
            }
        }
    }

    #[test]
    fn the_grounds_are_those_of_the_style_sheet() {
        for (theme, ours) in [LIGHT, DARK].into_iter().enumerate() {
            let [waking, asleep, ..] = values("sky")[theme][..] else {
                panic!("no skies");
            };
            assert_eq!(ours, [values("ground")[theme][0], waking, asleep]);
        }
    }
}
