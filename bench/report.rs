//! The results as Markdown, and the numbers of a sample.

use std::{collections::BTreeMap, fmt::Write, fs};

use crate::usage::cores;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/RESULTS.md");

/// What is written so far.
#[derive(Default)]
pub struct Report(String);

impl Report {
    pub fn section(&mut self, title: &str, words: &str) {
        println!("{title}");
        let _ = write!(self.0, "\n## {title}\n\n{words}\n");
    }

    pub fn head(&mut self, columns: &[&str]) {
        let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
        let _ = write!(self.0, "\n{}{}", line(columns), line(&vec!["---"; columns.len()]));
    }

    pub fn row(&mut self, cells: &[String]) {
        println!("  {}", cells.join("  "));
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }

    pub fn note(&mut self, words: &str) {
        println!("  {words}");
        let _ = write!(self.0, "\n{words}\n");
    }

    /// Puts it into the file of the results in the place of the part with this title; other parts stay as they are.
    pub fn save(&self, title: &str, words: &str) {
        let old = fs::read_to_string(RESULTS).unwrap_or_default();
        let mut parts: BTreeMap<&str, &str> = old
            .split("\n# ")
            .filter_map(|part| part.trim_start_matches("# ").split_once('\n'))
            .collect();
        let own = format!("\n{words}\n\n{}\n{}", machine(), self.0);
        parts.insert(title, &own);
        let parts = parts
            .iter()
            .map(|(title, text)| format!("# {title}\n{}\n", text.trim_end_matches('\n')));
        let whole = parts.collect::<Vec<_>>().join("\n");
        fs::write(RESULTS, whole).expect("the results can be written");
        println!("written to {RESULTS}");
    }
}

/// What it ran on.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "Machine: {} cores, {}.",
        cores(),
        name.map_or("of an unknown kind", |(_, name)| name)
    )
}

pub fn median(sample: &[f64]) -> f64 {
    percentile(sample, 0.5)
}

/// The value that this share of the sample does not exceed: 0.0 is the lowest, 1.0 the highest.
pub fn percentile(sample: &[f64], share: f64) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted[(share * last as f64).round() as usize]
}
