//! The rule files as they are on the disk: a file that becomes unusable is named, and the rule it last gave stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::file::FileError;
use crate::config::proxy::ProxyConfig;
use crate::config::proxy_rules::{ProxyRule, conflicts};

/// All files ever seen that are still there.
#[derive(Debug, Default)]
pub struct RuleFiles {
    files: BTreeMap<PathBuf, RuleFile>,
    /// The folder itself, when it cannot be read.
    folder: Option<FileError>,
}

#[derive(Debug)]
struct RuleFile {
    text: Result<String, String>,
    /// What the text says.
    read: Option<ProxyRule>,
    /// What is in use.
    used: Option<ProxyRule>,
    errors: Vec<FileError>,
}

impl RuleFiles {
    /// Reads the folder. Returns whether anything is different from the last time.
    pub fn refresh(&mut self, folder: &Path, config: &ProxyConfig) -> bool {
        match listed(folder) {
            Ok(texts) => {
                let healed = self.folder.take().is_some();
                self.take_in(texts, config) || healed
            }
            Err(error) => {
                let told = FileError {
                    file: folder.display().to_string(),
                    line: 0,
                    what: format!("the rule files cannot be read: {error}; the last ones stay"),
                };
                self.folder.replace(told.clone()) != Some(told)
            }
        }
    }

    /// As `refresh`, with what the folder holds.
    fn take_in(&mut self, texts: BTreeMap<PathBuf, Result<String, String>>, config: &ProxyConfig) -> bool {
        let same = |(path, text): (&PathBuf, &Result<String, String>)| {
            self.files.get(path).is_some_and(|file| file.text == *text)
        };
        if texts.len() == self.files.len() && texts.iter().all(same) {
            return false;
        }
        let mut before = std::mem::take(&mut self.files);
        for (path, text) in texts {
            let used = before.remove(&path).and_then(|file| file.used);
            let (read, errors) = match &text {
                Ok(text) => match ProxyRule::read(&path, text, config) {
                    Ok(rule) => (Some(rule), Vec::new()),
                    Err(errors) => (None, errors.0),
                },
                Err(error) => (None, vec![whole(&path, format!("it cannot be read: {error}"))]),
            };
            let file = RuleFile {
                text,
                read,
                used,
                errors,
            };
            self.files.insert(path, file);
        }
        self.settle();
        true
    }

    /// Chooses for each file what it says, else what it said last, such that no two contradict each other. What stays as it
    /// was goes before what is new.
    fn settle(&mut self) {
        let mut candidates: Vec<(PathBuf, bool, ProxyRule)> = Vec::new();
        for (path, file) in &self.files {
            if let Some(rule) = file.read.as_ref().or(file.used.as_ref()) {
                let unchanged = file.used.as_ref() == Some(rule);
                candidates.push((path.clone(), !unchanged, rule.clone()));
            }
        }
        candidates.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
        let told = |(path, _, rule): &(PathBuf, bool, ProxyRule)| (path.display().to_string(), rule.clone());
        let rules: Vec<_> = candidates.iter().map(told).collect();
        let mut refused: BTreeMap<usize, Vec<FileError>> = BTreeMap::new();
        for (at, error) in conflicts(&rules) {
            refused.entry(at).or_default().push(error);
        }
        let mut chosen: Vec<(PathBuf, ProxyRule)> = Vec::new();
        for (at, (path, _, rule)) in candidates.iter().enumerate() {
            if !refused.contains_key(&at) {
                chosen.push((path.clone(), rule.clone()));
            }
        }
        for (at, errors) in refused {
            let (path, _, _) = &candidates[at];
            let Some(file) = self.files.get_mut(path) else { continue };
            file.errors.extend(errors);
            // What it said before stands, unless that contradicts what others say by now.
            if let Some(earlier) = &file.used {
                let mut all: Vec<_> = chosen
                    .iter()
                    .map(|(path, rule)| (path.display().to_string(), rule.clone()))
                    .collect();
                all.push((path.display().to_string(), earlier.clone()));
                if conflicts(&all).is_empty() {
                    chosen.push((path.clone(), earlier.clone()));
                }
            }
        }
        for file in self.files.values_mut() {
            file.used = None;
        }
        for (path, rule) in chosen {
            if let Some(file) = self.files.get_mut(&path) {
                file.used = Some(rule);
            }
        }
    }

    /// The rules in use.
    pub fn rules(&self) -> Vec<ProxyRule> {
        self.files.values().filter_map(|file| file.used.clone()).collect()
    }

    /// All that is wrong with the files as they are now.
    pub fn errors(&self) -> Vec<FileError> {
        let files = self.files.values().flat_map(|file| file.errors.clone());
        self.folder.iter().cloned().chain(files).collect()
    }
}

fn whole(path: &Path, what: String) -> FileError {
    FileError {
        file: path.display().to_string(),
        line: 0,
        what,
    }
}

/// The rule files of a folder: `*.toml` that no editor hides.
fn listed(folder: &Path) -> std::io::Result<BTreeMap<PathBuf, Result<String, String>>> {
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            texts.insert(path, text);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ProxyConfig {
        ProxyConfig::read(Path::new("config.toml"), "").unwrap()
    }

    fn rule(idle: &str, port: u16) -> String {
        format!("idle = \"{idle}\"\nresources = \"program:x\"\n[[tcp]]\nport = 22\nlisten = {port}\n")
    }

    fn take_in(files: &mut RuleFiles, texts: &[(&str, &str)]) -> bool {
        let texts = texts
            .iter()
            .map(|(name, text)| (PathBuf::from(name), Ok((*text).to_owned())));
        files.take_in(texts.collect(), &config())
    }

    fn used(files: &RuleFiles) -> Vec<(String, String)> {
        let one = |rule: ProxyRule| (rule.name.0, rule.tags["autostopping:idle"].clone());
        files.rules().into_iter().map(one).collect()
    }

    fn is(name: &str, idle: &str) -> (String, String) {
        (name.to_owned(), idle.to_owned())
    }

    /// Red when a bad file took its rule away.
    #[test]
    fn of_a_file_that_becomes_bad_the_last_good_stays_and_others_are_not_touched() {
        let mut files = RuleFiles::default();
        let (a, b) = (rule("15m", 2201), rule("15m", 2202));
        assert!(take_in(&mut files, &[("a.toml", &a), ("b.toml", &b)]));
        assert!(!take_in(&mut files, &[("a.toml", &a), ("b.toml", &b)]), "nothing new");
        let better = rule("20m", 2202);
        assert!(take_in(&mut files, &[("a.toml", "idle = 5"), ("b.toml", &better)]));
        assert_eq!(used(&files), [is("a", "15m"), is("b", "20m")]);
        assert!(files.errors().iter().all(|error| error.file == "a.toml") && !files.errors().is_empty());
        assert!(take_in(&mut files, &[("a.toml", &a), ("b.toml", &better)]));
        assert!(files.errors().is_empty());
        assert!(take_in(&mut files, &[("b.toml", &better)]));
        assert_eq!(
            used(&files),
            [is("b", "20m")],
            "a file that is gone takes its rule with it"
        );
    }

    /// Red when files were taken in the order of their names alone: the new one took the old one's port.
    #[test]
    fn a_new_file_takes_nothing_away_from_one_in_use() {
        let mut files = RuleFiles::default();
        let b = rule("15m", 2202);
        take_in(&mut files, &[("b.toml", &b)]);
        take_in(&mut files, &[("a.toml", &rule("15m", 2202)), ("b.toml", &b)]);
        assert_eq!(used(&files), [is("b", "15m")]);
        assert_eq!(
            files.errors()[0].to_string(),
            "a.toml: the port 2202 is in b.toml already: give each rule its own"
        );
        // It moves aside, then wants the port back together with what it says anew: what it said last stays.
        take_in(&mut files, &[("a.toml", &rule("15m", 2203)), ("b.toml", &b)]);
        take_in(&mut files, &[("a.toml", &rule("30m", 2202)), ("b.toml", &b)]);
        assert_eq!(used(&files), [is("a", "15m"), is("b", "15m")]);
        assert_eq!(files.errors().len(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_read_changes_no_rule() {
        let place = tempfile::TempDir::new().unwrap();
        let folder = place.path().join("rules.d");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a.toml"), rule("15m", 2201)).unwrap();
        std::fs::write(folder.join(".a.toml.swp"), "x").unwrap();
        let mut files = RuleFiles::default();
        assert!(files.refresh(&folder, &config()));
        std::fs::rename(&folder, place.path().join("gone")).unwrap();
        assert!(files.refresh(&folder, &config()));
        assert_eq!((files.rules().len(), files.errors().len()), (1, 1));
        assert!(!files.refresh(&folder, &config()), "told once");
    }
}
