//! The wildcards of listener rules and of EC2's filters.

/// Whether `text` fits `pattern`, in which `*` is any run of characters, `?` is one, and `\` takes the next literally.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let mut tokens: Vec<(char, bool)> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => tokens.extend(chars.next().map(|next| (next, false))),
            '*' | '?' => tokens.push((c, true)),
            _ => tokens.push((c, false)),
        }
    }
    let text: Vec<char> = text.chars().collect();
    // Greedy with one way back: the last star seen, and how much it has swallowed.
    let (mut t, mut p, mut back) = (0, 0, None);
    while t < text.len() {
        match tokens.get(p) {
            Some(('*', true)) => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some((c, special)) if *special || *c == text[t] => {
                t += 1;
                p += 1;
            }
            Some(_) | None => {
                let Some((star, swallowed)) = back else { return false };
                p = star;
                t = swallowed + 1;
                back = Some((star, t));
            }
        }
    }
    tokens[p..].iter().all(|token| *token == ('*', true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("/img/*/pics", "/img/a/b/pics", true),
            ("/a?c", "/abc", true),
            ("/a?c", "/ac", false),
            ("*a*b", "xxaxxbxb", true),
            ("", "", true),
            ("*", "", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }
}
