//! A TOML file, walked key by key, so that everything that is wrong with it is told at once, each with its line.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::BadValue;
use super::text::{allowed_durations, allowed_numbers, duration, nearest, number};

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file as it was named to us.
    pub file: String,
    /// Counted from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// A sentence with the key, the value and what is allowed.
    pub what: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileError { file, line, what } = self;
        match line {
            0 => write!(f, "{file}: {what}"),
            line => write!(f, "{file}:{line}: {what}"),
        }
    }
}

/// Everything that is wrong with some files; never empty. One line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileErrors(pub Vec<FileError>);

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileErrors {}

/// Notes what is wrong on the way through a file.
pub(super) struct Walk<'t> {
    file: &'t str,
    text: &'t str,
    pub(super) errors: Vec<FileError>,
}

/// A table of a file and the name it has there: empty for the file itself, `http` for one of `[[http]]`.
#[derive(Clone, Copy)]
pub(super) struct Section<'t> {
    pub(super) name: &'static str,
    table: &'t DeTable<'t>,
    /// Where it begins, as an offset.
    at: usize,
}

/// A value as text, and where it is.
pub(super) struct Said {
    pub(super) key: String,
    pub(super) text: String,
    /// What it is when it is no text.
    kind: Option<&'static str>,
    at: usize,
}

impl<'t> Walk<'t> {
    /// Reads a file. What is no TOML is noted, and what could be read of it is handed to `read` all the same.
    ///
    /// # Errors
    /// All that is wrong, in the order of the lines.
    pub(super) fn through<T>(
        file: &'t str,
        text: &'t str,
        read: impl for<'a> FnOnce(&mut Walk<'a>, Section<'a>) -> T,
    ) -> Result<T, FileErrors> {
        let (table, broken) = DeTable::parse_recoverable(text);
        let mut walk = Walk {
            file,
            text,
            errors: Vec::new(),
        };
        for error in broken {
            let at = error.span().map_or(0, |span| span.start);
            walk.note(at, error.message().trim_end().replace('\n', "; "));
        }
        let is_toml = walk.errors.is_empty();
        let section = Section {
            name: "",
            table: table.get_ref(),
            at: 0,
        };
        let value = read(&mut walk, section);
        // What could not be parsed is missing from the table, and saying so too would only confuse.
        let mut errors = walk.errors;
        if !is_toml {
            errors.retain(|error| error.line > 0);
        }
        errors.sort_by_key(|error| error.line);
        errors.dedup();
        if errors.is_empty() {
            Ok(value)
        } else {
            Err(FileErrors(errors))
        }
    }

    fn line(&self, at: usize) -> usize {
        self.text
            .as_bytes()
            .iter()
            .take(at)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    }

    fn note(&mut self, at: usize, what: String) {
        let line = self.line(at);
        self.errors.push(FileError {
            file: self.file.to_owned(),
            line,
            what,
        });
    }

    /// What is wrong with the file as a whole.
    pub(super) fn lacks(&mut self, what: impl Into<String>) {
        self.errors.push(FileError {
            file: self.file.to_owned(),
            line: 0,
            what: what.into(),
        });
    }

    /// A value that can be read and cannot be used.
    pub(super) fn refuse(&mut self, said: &Said, allowed: impl Into<String>) {
        let bad = BadValue {
            key: said.key.clone(),
            value: said.text.clone(),
            allowed: allowed.into(),
        };
        // An empty value of a file was written there; only a variable of the environment is not set then.
        let what = match said.kind {
            Some(kind) => format!("{} is {kind}; allowed: {}", bad.key, bad.allowed),
            None if said.text.is_empty() => format!("{} = \"\" cannot be used; allowed: {}", bad.key, bad.allowed),
            None => bad.to_string(),
        };
        self.note(said.at, what);
    }

    /// A sentence about a place that was read.
    pub(super) fn tell(&mut self, said: &Said, what: impl Into<String>) {
        self.note(said.at, what.into());
    }

    /// A sentence about a section as a whole.
    pub(super) fn at(&mut self, section: Section<'t>, what: impl Into<String>) {
        self.note(section.at, what.into());
    }

    /// What a section lacks.
    pub(super) fn missing(&mut self, section: Section<'t>, key: &str, allowed: &str) {
        let what = format!("{} is missing; allowed: {allowed}", section.key(key));
        match section.name {
            "" => self.lacks(what),
            _ => self.note(section.at, what),
        }
    }

    /// The value of a key as text, whether it is written as a text, a number or a truth; an array is its elements
    /// separated by spaces.
    pub(super) fn said(&mut self, section: Section<'t>, key: &str) -> Option<Said> {
        let value = section.value(key)?;
        let said = Said::of(section.key(key), value.get_ref(), value.span().start);
        if said.kind.is_some() {
            self.refuse(&said, "a text, a whole decimal number, true, false or a list of those");
            return None;
        }
        Some(said)
    }

    pub(super) fn read<T>(
        &mut self,
        section: Section<'t>,
        key: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let said = self.said(section, key)?;
        let value = parse(&said.text);
        if value.is_none() {
            self.refuse(&said, allowed);
        }
        value
    }

    pub(super) fn number<T>(&mut self, section: Section<'t>, key: &str, range: &RangeInclusive<T>) -> Option<T>
    where
        T: std::str::FromStr + PartialOrd + fmt::Display,
    {
        self.read(section, key, &allowed_numbers(range), |text| number(text, range))
    }

    pub(super) fn duration(
        &mut self,
        section: Section<'t>,
        key: &str,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.read(section, key, &allowed_durations(range), |text| duration(text, range))
    }

    pub(super) fn truth(&mut self, section: Section<'t>, key: &str) -> Option<bool> {
        self.read(section, key, "true or false", |text| text.parse().ok())
    }

    /// The elements of a list, each with its own place; a single value is a list of one.
    pub(super) fn list(&mut self, section: Section<'t>, key: &str) -> Vec<Element<'t>> {
        let Some(value) = section.value(key) else {
            return Vec::new();
        };
        let of = |value: &'t Spanned<DeValue<'t>>| Element {
            key: section.key(key),
            at: value.span().start,
            value: value.get_ref(),
        };
        match value.get_ref() {
            DeValue::Array(values) => values.iter().map(of).collect(),
            _ => vec![of(value)],
        }
    }

    /// The tables of `[[name]]`; anything else under this name is noted.
    pub(super) fn sections(&mut self, section: Section<'t>, name: &'static str) -> Vec<Section<'t>> {
        let elements = self.list(section, name);
        let mut found = Vec::new();
        for element in elements {
            match element.value {
                DeValue::Table(table) => found.push(Section {
                    name,
                    table,
                    at: element.at,
                }),
                other => {
                    let kind = kind(other);
                    self.note(
                        element.at,
                        format!("{name} is {kind}; allowed: tables, each begun by [[{name}]]"),
                    );
                }
            }
        }
        found
    }

    /// Every key of the section that is not among the known ones.
    pub(super) fn strangers(&mut self, section: Section<'t>, known: &[&str]) {
        for key in section.table.keys() {
            let word: &str = key.get_ref();
            if known.contains(&word) {
                continue;
            }
            let meant = match nearest(word, known) {
                Some(near) => format!("{} is probably meant", section.key(near)),
                None => format!("the known ones are {}", known.join(", ")),
            };
            self.note(key.span().start, format!("{} is unknown: {meant}", section.key(word)));
        }
    }
}

/// An element of a list.
pub(super) struct Element<'t> {
    key: String,
    at: usize,
    value: &'t DeValue<'t>,
}

impl Said {
    fn of(key: String, value: &DeValue<'_>, at: usize) -> Self {
        let text = text_of(value);
        Said {
            key,
            kind: text.is_none().then(|| kind(value)),
            text: text.unwrap_or_default(),
            at,
        }
    }
}

impl<'t> Element<'t> {
    /// As text; what is none is the empty text, which nothing accepts.
    pub(super) fn said(&self) -> Said {
        Said::of(self.key.clone(), self.value, self.at)
    }

    pub(super) fn section(&self, name: &'static str) -> Option<Section<'t>> {
        let table = self.value.as_table()?;
        Some(Section {
            name,
            table,
            at: self.at,
        })
    }
}

impl<'t> Section<'t> {
    fn value(self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table
            .iter()
            .find(|(name, _)| &**name.get_ref() == key)
            .map(|(_, value)| value)
    }

    pub(super) fn has(self, key: &str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn keys(self) -> impl Iterator<Item = &'t str> {
        self.table.keys().map(|key| &**key.get_ref())
    }

    fn key(self, key: &str) -> String {
        match self.name {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(|value| text_of(value.get_ref())).collect();
            texts.map(|texts| texts.join(" "))
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// What a value is, in words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(number) if number.radix() == 10 => "a number",
        DeValue::Integer(_) => "a number that is not written in decimal digits",
        DeValue::Float(_) => "a number with a point or an exponent",
        DeValue::Boolean(_) => "a true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "a list with something else in it",
    }
}
