//! Where a held program is sent once its rule is awake: the same URL on the same host, whatever the URL looks like.

/// A `Location` for this path and query. It is path-absolute, so it never leaves the host, and everything in it stays
/// byte for byte, with two exceptions. A path that starts with `//` or `/\` would be read as another host (RFC 3986 4.2;
/// browsers take `\` for `/`), so it is written `/.//...`, which resolves to the same path. And control characters, which
/// no header may hold, are percent-encoded.
pub fn location(path_and_query: &str) -> String {
    let rooted = match path_and_query.as_bytes() {
        [b'/', b'/' | b'\\', ..] => format!("/.{path_and_query}"),
        [b'/', ..] => path_and_query.to_owned(),
        _ => format!("/{path_and_query}"),
    };
    let mut location = String::with_capacity(rooted.len());
    for character in rooted.chars() {
        if character.is_ascii_graphic() {
            location.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                location.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    // An unrooted path that began with a slash's look-alike must not become `//` by the rooting above.
    if location.starts_with("//") || location.starts_with("/\\") {
        format!("/.{location}")
    } else {
        location
    }
}

#[cfg(test)]
mod tests {
    use super::location;

    #[test]
    fn the_same_url_byte_for_byte_on_the_same_host() {
        for same in [
            "/",
            "/a%2Fb;c?x=%26&x=1&y",
            "/a//b",
            "/?next=https://evil.example",
            "/a?b=c\\d",
        ] {
            assert_eq!(location(same), same);
        }
        for (path, expected) in [
            ("//evil.example/x", "/.//evil.example/x"),
            ("/\\evil.example", "/./\\evil.example"),
            ("", "/"),
            ("https://evil.example", "/https://evil.example"),
            ("\\evil.example", "/./\\evil.example"),
            ("/a\r\nSet-Cookie: x", "/a%0D%0ASet-Cookie:%20x"),
            ("/ä", "/%C3%A4"),
        ] {
            assert_eq!(location(path), expected, "{path:?}");
        }
    }
}
