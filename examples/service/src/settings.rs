//! The command line.
//!
//! Owns: the options and their defaults. Does not know: what they are for.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use crate::AnyError;

const USAGE: &str = "\
usage: callboard-service [--port PORT] [--root DIR] [--data DIR] [--max-upload MIB]

--port        where it listens, on loopback alone; 8080, and 0 is one that the system chooses
--root        the directory below which it reads; the current one
--data        where it keeps tasks, jobs and uploads; service-data
--max-upload  how large an upload may be, in MiB; 1024";

/// What the command line says.
pub struct Settings {
    pub port: u16,
    pub root: PathBuf,
    pub data: PathBuf,
    /// In bytes.
    pub max_upload: u64,
}

impl Settings {
    /// Reads it; makes the directory for the data, so that both have their true paths.
    pub fn read(mut args: impl Iterator<Item = OsString>) -> Result<Self, AnyError> {
        let (mut port, mut max_upload) = (8080, 1024u64);
        let (mut root, mut data) = (PathBuf::from("."), PathBuf::from("service-data"));
        while let Some(name) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            match name.to_str() {
                Some("--port") => port = number(&value)?,
                Some("--root") => root = value.into(),
                Some("--data") => data = value.into(),
                Some("--max-upload") => max_upload = number(&value)?,
                _ => return Err(USAGE.into()),
            }
        }
        fs::create_dir_all(&data).map_err(|error| about(&data, &error))?;
        Ok(Self {
            port,
            root: root.canonicalize().map_err(|error| about(&root, &error))?,
            data: data.canonicalize().map_err(|error| about(&data, &error))?,
            max_upload: max_upload.saturating_mul(1 << 20),
        })
    }
}

fn number<T: FromStr>(value: &OsStr) -> Result<T, AnyError> {
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.ok_or_else(|| format!("{} is no number that fits\n\n{USAGE}", value.display()).into())
}

fn about(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
