//! Which language the reader asked for.

/// A language the page speaks. English where nothing else was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    English,
    German,
}

impl Language {
    pub const ALL: [Language; 2] = [Language::English, Language::German];

    /// The BCP 47 tag, for `lang` and `Content-Language`.
    pub fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::German => "de",
        }
    }

    /// The best of our languages for an `Accept-Language` (RFC 9110, 12.5.4). Never fails: what cannot be read is passed over,
    /// since a mangled header is no reason to withhold a page.
    pub fn from_accept_language(header: &str) -> Self {
        let mut best = (Language::default(), 0);
        // A browser sends a handful; the limit keeps a hostile header cheap.
        for range in header.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let Some(language) = parts.next().and_then(Self::from_range) else {
                continue;
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let Some(weight) = weight.map_or(Some(1000), per_mille) else {
                continue;
            };
            // Strictly more: of equals the first wins, as the reader listed them.
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }

    /// By the primary subtag alone: `de-CH` and `de-AT` read our German.
    fn from_range(range: &str) -> Option<Self> {
        let primary = range.split('-').next().unwrap_or_default();
        if primary == "*" {
            return Some(Language::default());
        }
        Language::ALL
            .into_iter()
            .find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }
}

fn per_mille(weight: &str) -> Option<u16> {
    let weight: f32 = weight.trim().parse().ok()?;
    (0.0..=1.0).contains(&weight).then_some((weight * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::Language::{self, English, German};

    #[test]
    fn the_reader_gets_the_best_language_we_have() {
        let table = [
            ("", English),
            ("de", German),
            ("DE-de", German),
            ("de-CH-1996", German),
            ("en-GB,en;q=0.9,de;q=0.8", English),
            ("fr-FR, fr;q=0.9, de;q=0.7, en;q=0.5", German),
            ("en;q=0.5, de;q=0.6", German),
            ("de;q=0, en;q=0.1", English),
            ("de;q=0", English),
            ("*", English),
            ("*;q=0.1, de;q=0.2", German),
            ("de, en", German),
            ("en, de", English),
            ("de ; q = 0.3", German),
            ("de;q=0.5;x=y", German),
            ("den", English),
            ("de_DE", English),
            ("de;q=2", English),
            ("de;q=-1", English),
            ("de;q=NaN", English),
            ("de;q=", English),
            (";;;,,,q=1,-,de", German),
            ("\u{0}\u{202e}<script>", English),
        ];
        for (header, expected) in table {
            assert_eq!(Language::from_accept_language(header), expected, "{header:?}");
        }
        assert_eq!(Language::from_accept_language(&"de;q=0.001,".repeat(100_000)), German);
    }
}
