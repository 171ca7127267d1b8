//! Which files may be read.
//!
//! Owns: that nothing outside of the directory that is served becomes part of a job. Does not
//! know: jobs.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// What is served. Both are true paths, without links in them.
pub struct Served {
    pub root: PathBuf,
    /// What the service itself writes, which may be below the root.
    pub except: PathBuf,
}

impl Served {
    /// Finds the regular files below a directory, at most so many; follows no link. In words, what
    /// is wrong with it.
    pub fn below(&self, asked: &Path, most: usize) -> Result<Vec<Bytes>, String> {
        let about = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        let top = self.root.join(asked).canonicalize();
        let top = top.map_err(|error| about(asked, error))?;
        if !top.starts_with(&self.root) || top.starts_with(&self.except) {
            let asked = asked.display();
            return Err(format!("{asked} is not below the directory that is served"));
        }
        let (mut folders, mut found) = (vec![top], Vec::new());
        while let Some(folder) = folders.pop() {
            let wrong = |error| about(&folder, error);
            for entry in fs::read_dir(&folder).map_err(wrong)? {
                let entry = entry.map_err(wrong)?;
                let kind = entry.file_type().map_err(wrong)?;
                let path = entry.path();
                if kind.is_dir() && path != self.except {
                    folders.push(path);
                } else if kind.is_file() {
                    found.push(Bytes::copy_from_slice(path.as_os_str().as_bytes()));
                }
                if found.len() > most {
                    let asked = asked.display();
                    return Err(format!(
                        "{asked} has more files than {most}, the most of a job"
                    ));
                }
            }
        }
        // In an order that does not depend on the file system.
        found.sort();
        Ok(found)
    }
}
