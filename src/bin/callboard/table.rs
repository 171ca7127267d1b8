//! Lines for a person: tables with aligned columns, and facts with their names.
//!
//! Owns: that every cell stays in its line and does nothing to a terminal. Does not know: what the
//! cells mean.

use std::fmt::Display;
use std::io::{self, Write};

use callboard::__internals::text::{escaped, words};
use serde_json::Value;

/// How many letters a cell has at most; the last of a row may have more.
const CELL: usize = 40;
const LAST_CELL: usize = 300;

/// A table with a line of titles.
#[derive(Clone, Debug)]
pub struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// Begins one.
    pub fn new(titles: [&str; COLUMNS]) -> Self {
        Self {
            rows: vec![titles.map(str::to_owned)],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [&dyn Display; COLUMNS]) {
        let mut at = 0;
        self.rows.push(cells.map(|cell| {
            at += 1;
            let most = if at == COLUMNS { LAST_CELL } else { CELL };
            match words(&cell.to_string(), most) {
                empty if empty.is_empty() => "-".to_owned(),
                cell => cell,
            }
        }));
    }

    /// Returns its lines.
    pub fn lines(&self) -> Vec<String> {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |row: &[String; COLUMNS]| {
            let cells = row.iter().zip(widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:width$}  "))
                .collect();
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    /// Prints it.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for line in self.lines() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// Prints facts, a line each.
///
/// # Errors
///
/// They cannot be written.
pub fn facts(out: &mut dyn Write, facts: &[(&str, String)]) -> io::Result<()> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        writeln!(out, "{name:width$}  {}", words(value, LAST_CELL))?;
    }
    Ok(())
}

/// Prints a sentence, or whatever else came as one.
///
/// # Errors
///
/// It cannot be written.
pub fn sentence(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "{}", words(text, LAST_CELL * 4))
}

/// Prints a value as one line of JSON.
///
/// # Errors
///
/// It cannot be written.
pub fn json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{}", escaped(&value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_leaves_its_place() {
        let mut table = Table::new(["ID", "KIND", "WHY"]);
        table.row([&1, &"a\u{1b}[2J\nb", &""]);
        table.row([&23, &"x".repeat(99), &"y"]);
        let lines = table.lines();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1].trim_end(),
            format!("1   {:41}  -", "a\\u{1b}[2J\\u{a}b")
        );
        assert_eq!(lines[2], format!("23  {}\u{2026}  y", "x".repeat(40)));
    }
}
