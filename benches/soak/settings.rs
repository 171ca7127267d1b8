//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::AnyError;

pub struct Settings {
    pub length: Duration,
    pub tasks: u64,
    pub nodes: usize,
    pub seed: u64,
    /// Whether links are TLS, and not by the secret.
    pub tls: bool,
    /// Whether the scheduler has a store, and is killed too.
    pub store: bool,
}

const USAGE: &str =
    "usage: soak [--minutes M | --seconds S] [--seed S] [--nodes N] [--store] [--tls]";
const TASKS_PER_MINUTE: u64 = 100_000;

impl Settings {
    /// Parses the arguments. Returns `None` if only help was asked for.
    pub fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Option<Self>, AnyError> {
        let (mut seconds, mut nodes, mut seed) = (60, 20, fastrand::u64(..));
        let (mut tls, mut store) = (false, false);
        while let Some(arg) = args.next() {
            let mut number = |range: RangeInclusive<u64>| -> Result<u64, AnyError> {
                let value = args.next().ok_or(USAGE)?;
                let read = value.to_str().and_then(|text| text.parse().ok());
                let read = read.filter(|number| range.contains(number));
                read.ok_or_else(|| {
                    let (from, to) = range.into_inner();
                    format!("{} is not a number from {from} to {to}", value.display()).into()
                })
            };
            match arg.to_str() {
                Some("--minutes") => seconds = 60 * number(1..=1440)?,
                Some("--seconds") => seconds = number(20..=3600)?,
                Some("--nodes") => nodes = number(2..=100)?,
                Some("--seed") => seed = number(0..=u64::MAX)?,
                Some("--tls") if cfg!(feature = "tls") => tls = true,
                Some("--tls") => return Err("this was built without TLS".into()),
                Some("--store") if cfg!(feature = "store") => store = true,
                Some("--store") => return Err("this was built without stores".into()),
                // Cargo says it to each bench.
                Some("--bench") => {}
                Some("--help" | "-h") => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                _ => return Err(format!("{} is no option\n{USAGE}", arg.display()).into()),
            }
        }
        Ok(Some(Self {
            length: Duration::from_secs(seconds),
            tasks: TASKS_PER_MINUTE * seconds / 60,
            nodes: usize::try_from(nodes)?,
            seed,
            tls,
            store,
        }))
    }
}
