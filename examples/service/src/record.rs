//! What is kept of a job on disk.
//!
//! Owns: the files of a job, and that they can be read wherever the service was killed. Does not
//! know: tasks.
//!
//! `ID.files` has the paths, each with a NUL behind it. It is a job as soon as it has this name.
//! `ID.done` has a line of JSON for each file that is done, by its number in that list, and one
//! when the job is cancelled. `ID.upload` is the file of a job that was sent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    Digest(String),
    Failed(String),
    Cancelled,
}

/// A line of what has happened to a job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The file of this number has ended.
    Ended(usize, Ended),
    /// All that had not ended before was cancelled.
    Cancelled,
}

/// The record of one job, to which lines are added.
pub struct Record(File);

impl Record {
    /// Adds a line. It outlasts this process, but perhaps not a power cut.
    pub fn add(&mut self, line: &Line) -> io::Result<()> {
        // Each begins with its end of line, so that one that breaks off does not spoil the next.
        let mut text = vec![b'\n'];
        serde_json::to_writer(&mut text, line)?;
        self.0.write_all(&text)
    }
}

/// Where the records of all jobs are.
pub struct Folder(PathBuf);

impl Folder {
    /// Opens it, and removes what belongs to no job: a service was killed before it was one.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let folder = Self(path);
        for entry in fs::read_dir(&folder.0)? {
            let path = entry?.path();
            if !path.with_extension("files").exists() {
                fs::remove_file(path)?;
            }
        }
        Ok(folder)
    }

    /// Returns the numbers of all jobs, the oldest first.
    pub fn jobs(&self) -> io::Result<Vec<u64>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "files") {
                jobs.extend(
                    path.file_stem()
                        .and_then(|stem| stem.to_str()?.parse::<u64>().ok()),
                );
            }
        }
        jobs.sort_unstable();
        Ok(jobs)
    }

    /// Writes down the files of a job that is to be. Slow: it waits for the disk.
    pub fn prepare(&self, job: u64, files: &[Bytes]) -> io::Result<()> {
        let mut list = BufWriter::new(File::create(self.path(job, "new"))?);
        for path in files {
            list.write_all(path)?;
            list.write_all(&[0])?;
        }
        list.into_inner()?.sync_all()
    }

    /// Makes what was prepared a job.
    pub fn begin(&self, job: u64) -> io::Result<Record> {
        let record = self.append(job)?;
        fs::rename(self.path(job, "new"), self.path(job, "files"))?;
        File::open(&self.0)?.sync_all()?;
        Ok(record)
    }

    /// Reads a job: its files, what has happened, and where to go on.
    pub fn read(&self, job: u64) -> io::Result<(Vec<Bytes>, Vec<Line>, Record)> {
        let list = fs::read(self.path(job, "files"))?;
        let paths = list
            .split(|&byte| byte == 0)
            .filter(|path| !path.is_empty());
        let files = paths.map(Bytes::copy_from_slice).collect();
        let record = self.append(job)?;
        let done = fs::read(self.path(job, "done"))?;
        let lines = done.split(|&byte| byte == b'\n');
        // One may break off where the service was killed or the disk was full.
        let lines = lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        Ok((files, lines, record))
    }

    /// Removes all that there is of a job, or of one that did not come to be.
    pub fn remove(&self, job: u64) {
        // The list first: without it the rest is removed at the next start.
        for end in ["files", "done", "new", "upload"] {
            // Most are not there.
            let _ = fs::remove_file(self.path(job, end));
        }
    }

    /// Returns the path of what is sent for a job.
    pub fn upload(&self, job: u64) -> PathBuf {
        self.path(job, "upload")
    }

    /// Removes what was sent for a job.
    pub fn remove_upload(&self, job: u64) {
        // Most jobs have none.
        let _ = fs::remove_file(self.upload(job));
    }

    /// Returns whether this is the path of something that was sent.
    pub fn has(&self, path: &Path) -> bool {
        path.starts_with(&self.0)
    }

    fn append(&self, job: u64) -> io::Result<Record> {
        let path = self.path(job, "done");
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Record(file))
    }

    fn path(&self, job: u64, end: &str) -> PathBuf {
        self.0.join(format!("{job}.{end}"))
    }
}
