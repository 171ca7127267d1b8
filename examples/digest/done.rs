//! Which files are done, over all starts of the program on one store.
//!
//! Owns: the file beside the store in which each digest is written down when it is told, and that a
//! file counts once, however often it is told. Does not know: where the digests come from.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::Ended;

/// The files that are handed in, and those that are done. Clones are the same.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<Progress>>);

#[derive(Default)]
struct Progress {
    waiting: HashSet<Bytes>,
    done: HashSet<Bytes>,
}

impl Files {
    /// Returns whether a file is still to be handed in; then it is waited for.
    pub fn begin(&self, path: Bytes) -> bool {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !progress.done.contains(&path) && progress.waiting.insert(path)
    }

    /// Notes that a file is done. Returns whether it is so for the first time, and whether it was
    /// waited for.
    fn end(&self, path: &Bytes) -> (bool, bool) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let awaited = progress.waiting.remove(path);
        (progress.done.insert(path.clone()), awaited)
    }
}

/// What was told.
pub struct Done {
    files: Files,
    told: Vec<(Bytes, Ended)>,
    /// Where it is written down, if the program may be killed.
    written: Option<File>,
}

impl Done {
    /// Reads what was told to an earlier start on this store.
    pub fn open(store: Option<&Path>, files: Files) -> io::Result<Self> {
        let mut done = Self {
            files,
            told: Vec::new(),
            written: None,
        };
        let Some(store) = store else { return Ok(done) };
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .create(true)
            .open(beside(store))?;
        let (mut reader, mut line, mut whole) = (BufReader::new(&file), Vec::new(), 0);
        // The last line may break off, where the program was killed.
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            let (path, ended): (Vec<u8>, Ended) = serde_json::from_slice(&line)?;
            whole += line.len() as u64;
            line.clear();
            let path = Bytes::from(path);
            if done.files.end(&path).0 {
                done.told.push((path, ended));
            }
        }
        file.set_len(whole)?;
        done.written = Some(file);
        Ok(done)
    }

    /// Notes that a task has ended. Returns whether its file was waited for.
    pub fn ended(&mut self, path: Bytes, ended: Ended) -> bool {
        let (first, awaited) = self.files.end(&path);
        if first {
            if let Some(file) = &mut self.written {
                // A status counts as handled when this returns, so it is written down before.
                let mut line = serde_json::to_vec(&(&path[..], &ended)).unwrap_or_default();
                line.push(b'\n');
                if let Err(error) = file.write_all(&line) {
                    eprintln!("digest: {error}");
                }
            }
            self.told.push((path, ended));
        }
        awaited
    }

    pub fn take(&mut self) -> Vec<(Bytes, Ended)> {
        std::mem::take(&mut self.told)
    }
}

/// Returns the key of a file's task: its path may be no text, and longer than a key may be.
pub fn key(path: &[u8]) -> String {
    let hash = Sha256::digest(path);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes what is not needed any more.
pub fn remove(store: &Path) -> io::Result<()> {
    remove_file(store)?;
    remove_file(beside(store))
}

fn beside(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".done");
    PathBuf::from(name)
}
