//! Handlers that a start on a store may leave running in this process when it ends.
//!
//! Owns: how many there are of each file. Does not know: what they do, or when they return.
//!
//! A handler that blocks cannot be stopped, so it outlasts its scheduler where the process goes on.
//! The next start on the file would take its exclusive task for one that runs nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::sync::lock;

static RUNNING: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// One of these handlers, until it is dropped.
#[derive(Debug)]
pub(crate) struct LeftRunning {
    file: PathBuf,
}

impl LeftRunning {
    /// Counts a handler that begins now, for the store at this path.
    pub(crate) fn begin(store: &Path) -> Self {
        let file = file_of(store);
        *lock(&RUNNING).entry(file.clone()).or_default() += 1;
        Self { file }
    }
}

impl Drop for LeftRunning {
    fn drop(&mut self) {
        let mut running = lock(&RUNNING);
        if let Some(count) = running.get_mut(&self.file) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.file);
            }
        }
    }
}

/// Returns whether any of them has not returned.
pub(super) fn any(store: &Path) -> bool {
    lock(&RUNNING).contains_key(&file_of(store))
}

/// Returns the file itself, by whichever path it is named.
fn file_of(store: &Path) -> PathBuf {
    fs::canonicalize(store).unwrap_or_else(|_| store.to_owned())
}
