//! The command line.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::AnyError;

pub struct Settings {
    pub path: PathBuf,
    pub nodes: u32,
    pub workers: u32,
    pub kill_after: Option<Duration>,
    /// Where the tasks are kept, so that the whole program may be killed.
    pub store: Option<PathBuf>,
}

const USAGE: &str = "usage: digest PATH [--nodes N] [--workers W] [--kill-after MS] [--store FILE]";

impl Settings {
    /// Returns the settings; `None` if only help was asked for.
    pub fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Option<Self>, AnyError> {
        let (mut path, mut nodes, mut workers) = (None, 3, 4);
        let (mut kill_after, mut store) = (None, None);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(USAGE);
            match arg.as_bytes() {
                b"--nodes" => nodes = number(&value()?, 1..=64)?,
                b"--workers" => workers = number(&value()?, 1..=1024)?,
                b"--kill-after" => {
                    let ms = number(&value()?, 0..=86_400_000)?;
                    kill_after = Some(Duration::from_millis(ms.into()));
                }
                b"--store" => store = Some(PathBuf::from(value()?)),
                b"--help" | b"-h" => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                option if option.starts_with(b"-") => {
                    return Err(format!("{} is no option\n{USAGE}", arg.display()).into());
                }
                _ if path.is_none() => path = Some(PathBuf::from(arg)),
                _ => return Err(USAGE.into()),
            }
        }
        if kill_after.is_some() && nodes == 1 {
            return Err("--kill-after takes at least 2 nodes: one has to do the work".into());
        }
        Ok(Some(Self {
            path: path.ok_or(USAGE)?,
            nodes,
            workers,
            kill_after,
            store,
        }))
    }
}

pub fn number(text: &OsStr, range: RangeInclusive<u32>) -> Result<u32, AnyError> {
    let read = text.to_str().and_then(|text| text.parse().ok());
    let read = read.filter(|number| range.contains(number));
    read.ok_or_else(|| {
        let (from, to) = range.into_inner();
        format!("{} is not a number from {from} to {to}", text.display()).into()
    })
}
