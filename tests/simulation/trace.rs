//! What is remembered of a history: a hash always, lines of text when it is run again to be read.
//!
//! Owns: the lines and their filter. Does not know: what they mean.

use std::hash::{Hash, Hasher};

use crate::plan::{SECOND, Time};

#[derive(Default)]
pub struct Trace {
    hash: Fold,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub fn new(keep_lines: bool) -> Self {
        Self {
            hash: Fold::default(),
            lines: keep_lines.then(Vec::new),
        }
    }

    pub fn mix(&mut self, value: impl Hash) {
        value.hash(&mut self.hash);
    }

    pub fn line(&mut self, at: Time, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {}", at as f64 / SECOND as f64, text()));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub fn keeps_lines(&self) -> bool {
        self.lines.is_some()
    }

    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or(&[])
    }

    /// Returns the last lines that name the task, and the last that name none, in order. Without a
    /// task: the last.
    pub fn about(&self, task: Option<&str>, most: usize) -> Vec<&str> {
        let Some(task) = task else {
            let from = self.lines().len().saturating_sub(most);
            return self.lines()[from..].iter().map(String::as_str).collect();
        };
        let (mut naming, mut others) = (0, 0);
        let mut chosen: Vec<&str> = self
            .lines()
            .iter()
            .rev()
            .map(String::as_str)
            .filter(|line| {
                let count = if names(line, task) {
                    &mut naming
                } else if names_any(line) || is_sign_of_life(line) {
                    return false;
                } else {
                    &mut others
                };
                *count += 1;
                *count <= most / 2
            })
            .collect();
        chosen.reverse();
        chosen
    }
}

fn is_sign_of_life(line: &str) -> bool {
    [" Beat(", " Answer(", " Acknowledge(", " Confirmed "]
        .iter()
        .any(|sign| line.contains(sign))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric())
}

fn names(line: &str, task: &str) -> bool {
    words(line).any(|word| word == task)
}

fn names_any(line: &str) -> bool {
    words(line).any(|word| {
        word.strip_prefix('t')
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// A hasher without a random key.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
