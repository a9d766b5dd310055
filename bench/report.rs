//! The results as Markdown, and the numbers of a sample.

use std::fmt::Write;

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

    /// The whole file.
    pub fn text(&self) -> String {
        let words = "Written by `make bench`, which repeats all of it: the release build of the function in front of the \
                     local cloud, on loopback. Times are those of a process on this machine, not of Lambda, where the \
                     start of an environment comes before and the network in between.";
        format!("# Results\n\n{words}\n\n{}\n{}", machine(), self.0)
    }
}

/// What it ran on.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Machine: {cores} cores, {}.",
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
