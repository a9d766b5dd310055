//! What a site is called on the command line: host, path, and the target group's name made of them.

/// The name of a site's target group. It has 1 to 32 letters, digits and hyphens, and no hyphen at either end. Source: Elastic Load Balancing
/// API reference, `CreateTargetGroup`.
pub fn group_name(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(fits).collect();
    let name: String = name.trim_matches('-').chars().take(32).collect();
    match name.trim_matches('-') {
        "" => "site".to_owned(),
        name => name.to_owned(),
    }
}

/// A host as it may be given. Source: Elastic Load Balancing API reference, `HostHeaderConditionConfig`.
pub fn host(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.*?".contains(c);
    match text {
        "" => Err("a host such as app.example.com".to_owned()),
        long if long.len() > 128 => Err("allowed: at most 128 characters".to_owned()),
        text if text.chars().all(fits) => Ok(text.to_ascii_lowercase()),
        _ => Err("allowed: letters, digits and -.*? such as app.example.com, without http:// and port".to_owned()),
    }
}

/// A path as it may be given. Source: Elastic Load Balancing API reference, `PathPatternConditionConfig`.
pub fn path(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.$/~\"'@:+&*?".contains(c);
    match text {
        long if long.len() > 128 => Err("allowed: at most 128 characters".to_owned()),
        text if text.starts_with('/') && text.chars().all(fits) => Ok(text.to_owned()),
        _ => Err("allowed: a path such as /app/*, of letters, digits and _-.$/~\"'@:+&*?".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_target_groups_fit() {
        for (name, expected) in [
            ("app.example.com", "app-example-com"),
            ("*.example.com", "example-com"),
            (
                "a-very-long-name-that-ends-in-a.hyphen",
                "a-very-long-name-that-ends-in-a",
            ),
            ("...", "site"),
        ] {
            assert_eq!(group_name(name), expected);
        }
    }

    #[test]
    fn hosts_and_paths_are_told_from_urls() {
        assert_eq!(host("App.example.com"), Ok("app.example.com".to_owned()));
        for wrong in ["", "http://x", "x:80", "x y"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        assert!(path("/app/*").is_ok());
        for wrong in ["", "app", "/a b", "/?\u{fc}"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
