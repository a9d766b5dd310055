//! The list of those who fetch on nobody's behalf, and of what is asked for of any site: `nobody.txt`.

use std::sync::LazyLock;

use crate::domain::path::PathPrefix;

const LIST: &str = include_str!("nobody.txt");

static AGENTS: LazyLock<Vec<&str>> = LazyLock::new(|| entries().filter(|entry| !is_path(entry)).collect());
static PATHS: LazyLock<Vec<PathPrefix>> =
    LazyLock::new(|| entries().filter(is_path).filter_map(PathPrefix::with_star).collect());

/// The entry of the list that this `User-Agent` holds.
pub fn by_agent(agent: &str) -> Option<&'static str> {
    let agent = agent.to_ascii_lowercase();
    AGENTS.iter().find(|known| agent.contains(**known)).copied()
}

/// What is asked for of any site; in lower case.
pub fn usual_paths() -> &'static [PathPrefix] {
    &PATHS
}

fn is_path(entry: &&str) -> bool {
    entry.starts_with('/')
}

fn entries() -> impl Iterator<Item = &'static str> {
    let lines = LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once("  ").map_or(line, |(entry, _)| entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As these browsers, libraries and tools send it today: behind each may be somebody who waits.
    const SOMEBODY: [&str; 15] = [
        "",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/500.0]",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Teams/25.1 Chrome/132.0 Electron/34.0 Safari/537.36",
        "curl/8.14.1",
        "Wget/1.25.0",
        "python-requests/2.32.5",
        "Go-http-client/1.1",
        "Slackbot 1.0 (+https://api.slack.com/robots)",
        "GitHub-Hookshot/abc1234",
        // It delivers slash commands, and previews links under the same name.
        "Mattermost-Bot/1.1",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Claude-User/1.0; +Claude-User@anthropic.com)",
    ];

    #[test]
    fn every_line_has_an_entry_and_its_source() {
        let lines = LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (entry, source) = line.split_once("  ").unwrap_or_else(|| panic!("no source: {line}"));
            let says = source.trim().contains("https://") || source.contains(' ');
            assert!(says, "{line}");
            assert_eq!(entry, entry.to_ascii_lowercase(), "compared in lower case");
            assert_eq!(entry, entry.trim(), "{line}");
        }
        assert_eq!(PATHS.len(), entries().filter(is_path).count(), "each path is one");
        assert!(AGENTS.len() > 100 && PATHS.len() > 40);
    }

    #[test]
    fn no_entry_stands_twice_or_within_another() {
        let agents: Vec<_> = AGENTS.iter().enumerate().collect();
        for (place, agent) in &agents {
            let other = agents.iter().find(|(at, known)| at != place && agent.contains(**known));
            assert_eq!(other, None, "{agent}");
            assert!(agent.len() >= 5, "{agent} could be part of anything");
        }
        let mut paths: Vec<_> = PATHS.iter().map(ToString::to_string).collect();
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }

    #[test]
    fn nobody_is_told_from_somebody() {
        for agent in SOMEBODY {
            assert_eq!(by_agent(agent), None, "{agent}");
        }
        for (agent, entry) in [
            (
                "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
                "uptimerobot",
            ),
            (
                "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
                "slackbot-linkexpanding",
            ),
            ("WhatsApp/2.23.20.0 A", "whatsapp/"),
            ("facebookexternalhit/1.1 Facebot Twitterbot/1.0", "facebookexternalhit"),
            (
                "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
                "skypeuripreview",
            ),
            ("TelegramBot (like TwitterBot)", "twitterbot"),
            ("Mozilla/5.0 zgrab/0.x", "zgrab"),
            (
                "Mozilla/5.0 (compatible; CensysInspect/1.1; +https://about.censys.io/)",
                "censysinspect",
            ),
        ] {
            assert_eq!(by_agent(agent), Some(entry), "{agent}");
        }
    }
}
