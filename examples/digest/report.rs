//! What is printed at the end.
//!
//! Owns: order and escaping, just as `sha256sum` has them. Does not know: how the digests were had.

use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use callboard::stats::Stats;
use indicatif::{HumanBytes, HumanCount};

use crate::{Digest, Kill};

/// A file or directory that could not be read, and why.
pub struct Unreadable {
    path: Bytes,
    why: String,
}

impl Unreadable {
    pub fn of_walk(root: &Path, error: walkdir::Error) -> Self {
        let path = error.path().unwrap_or(root).as_os_str().as_bytes();
        Self {
            path: Bytes::copy_from_slice(path),
            why: match error.io_error() {
                Some(io) => io.to_string(),
                None => error.to_string(),
            },
        }
    }
}

pub struct Report {
    digests: Vec<(Bytes, Digest)>,
    pub unreadable: Vec<Unreadable>,
}

impl Report {
    pub fn new(
        files: Vec<(Bytes, Result<Digest, String>)>,
        mut unreadable: Vec<Unreadable>,
    ) -> Self {
        let mut digests = Vec::with_capacity(files.len());
        for (path, result) in files {
            match result {
                Ok(digest) => digests.push((path, digest)),
                Err(why) => unreadable.push(Unreadable { path, why }),
            }
        }
        digests.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        unreadable.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Self {
            digests,
            unreadable,
        }
    }

    pub fn print_digests(&self) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        for (path, digest) in &self.digests {
            let path = Escaped::new(path);
            write!(out, "{}{}  ", path.mark, digest.sha256)?;
            out.write_all(&path.text)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    pub fn print_unreadable(&self) -> io::Result<()> {
        let mut out = BufWriter::new(io::stderr().lock());
        if !self.unreadable.is_empty() {
            writeln!(out, "could not be read: {}", self.unreadable.len())?;
        }
        for Unreadable { path, why } in &self.unreadable {
            out.write_all(b"  ")?;
            out.write_all(&Escaped::new(path).text)?;
            writeln!(out, ": {why}")?;
        }
        out.flush()
    }

    pub fn summary(&self, stats: &Stats, kill: &Kill, took: Duration) -> String {
        let bytes = self.digests.iter().map(|(_, digest)| digest.bytes).sum();
        let files = self.digests.len() as u64;
        let mut text = format!(
            "files: {}, bytes: {} ({}), time: {:.3} s\ntasks per node:",
            HumanCount(files),
            HumanCount(bytes),
            HumanBytes(bytes),
            took.as_secs_f64(),
        );
        for node in &stats.nodes {
            text += &format!(" {} {}", node.name, HumanCount(node.settled));
        }
        let totals = &stats.totals;
        text += &format!(
            "\nretries: {}, reroutes: {}\n",
            totals.retried, totals.rerouted
        );
        if let Some(after) = kill.after {
            let done = kill.done.as_deref();
            let done = done.unwrap_or("no node was killed, since all was done");
            text += &format!("{done}, after {} ms\n", after.as_millis());
        }
        text
    }
}

/// A path as `sha256sum` prints it: on one line, and marked if that took a change.
struct Escaped {
    mark: &'static str,
    text: Vec<u8>,
}

impl Escaped {
    pub fn new(path: &[u8]) -> Self {
        let mut text = Vec::with_capacity(path.len());
        for &byte in path {
            match byte {
                b'\\' => text.extend(b"\\\\"),
                b'\n' => text.extend(b"\\n"),
                b'\r' => text.extend(b"\\r"),
                _ => text.push(byte),
            }
        }
        let mark = if text.len() == path.len() { "" } else { "\\" };
        Self { mark, text }
    }
}

/// Passes over that whoever reads our output has stopped, as `head` does.
pub fn unless_closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    }
}
