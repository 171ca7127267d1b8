//! Where the dashboard is, and who asks.
//!
//! Owns: how the command line, the environment and files say so. Does not know: how it is asked.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

use super::client::Place;
use super::ending::{Ending, Failed};

/// How long the files of a token and of authorities are at most, in bytes.
const MAX_TOKEN: u64 = 4096;
#[cfg(feature = "tls")]
const MAX_AUTHORITIES: u64 = 16 * 1024 * 1024;

/// Reads where the dashboard is. A token is no argument, since others on this machine can read
/// those.
///
/// # Errors
///
/// It is not said, or a file cannot be read.
pub fn place(args: &ArgMatches) -> Result<Place, Failed> {
    let usage = |words: String| Failed::said(Ending::Usage, words);
    let variable = |name: &str| match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(usage(format!("{name} is not UTF-8"))),
    };
    let at = match args.get_one::<String>("at") {
        Some(at) => at.clone(),
        None => variable("CALLBOARD_URL")?.ok_or_else(|| {
            usage(
                "say where the dashboard is, by --at URL or CALLBOARD_URL, such as \
                 http://127.0.0.1:8080/tasks"
                    .to_owned(),
            )
        })?,
    };
    let read = |path: &PathBuf, most: u64| {
        let size = fs::metadata(path).map(|file| file.len());
        let bytes = size.and_then(|size| match size {
            size if size > most => Err(std::io::Error::other("it is too large")),
            _ => fs::read(path),
        });
        bytes.map_err(|error| usage(format!("{} cannot be read: {error}", path.display())))
    };
    let token = match args.get_one::<PathBuf>("token-file") {
        Some(path) => {
            let bytes = read(path, MAX_TOKEN)?;
            let text = String::from_utf8_lossy(&bytes);
            let line = text.lines().next().unwrap_or_default().trim().to_owned();
            if line.is_empty() {
                return Err(usage(format!("{} holds no token", path.display())));
            }
            Some(line)
        }
        None => variable("CALLBOARD_TOKEN")?.map(|token| token.trim().to_owned()),
    };
    let is_one = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
    if !token.as_ref().is_none_or(is_one) {
        return Err(usage(
            "the token holds what no token may: it is one word of printable ASCII".to_owned(),
        ));
    }
    let seconds = args.get_one::<u32>("timeout").copied().unwrap_or(30);
    Ok(Place {
        at,
        token,
        patience: Duration::from_secs(seconds.into()),
        #[cfg(feature = "tls")]
        authorities: match args.get_one::<PathBuf>("ca") {
            Some(path) => Some(read(path, MAX_AUTHORITIES)?),
            None => None,
        },
    })
}
