//! How results are printed: tables for people, JSON for scripts.

use std::fmt::Arguments;
use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde_json::Value;

/// A format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Prints a result: `value` for scripts, `table` for people.
pub fn print(format: Format, value: &Value, table: impl FnOnce() -> Table) {
    match format {
        Format::Json => line(format_args!("{value:#}")),
        Format::Table => line(format_args!("{}", table())),
    }
}

/// One line of results. A reader that has seen enough (`| head`) is no reason to fail.
pub fn line(text: Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// An empty table in the house style.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>());
    }
    table
}
