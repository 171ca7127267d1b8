//! The table that is drawn anew.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use actix_web::rt::task::spawn_blocking;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{callboard, finish, judge, printed, scheduler, serve, text};

#[actix::test]
async fn it_looks_as_often_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-top", folder.path()).await;
    let served = serve(&[&scheduler], "staging", judge);
    let told = printed(&served.url, &["top", "--frames", "2", "--every", "1"]).await;
    assert_eq!(
        told.matches("terminal-top (staging)\n").count(),
        2,
        "{told}"
    );
    assert_eq!(told.matches("accepted 0.0/s").count(), 1, "{told}");
    assert!(told.contains("\nhere "), "{told}");
    let told = printed(
        &served.url,
        &["top", "--frames", "2", "--every", "1", "--json"],
    )
    .await;
    assert_eq!(told.lines().count(), 2, "{told}");
    finish(scheduler, served).await;
}

/// Runs it on a terminal of so many rows and columns, until that is closed after the first look.
/// Returns what was drawn.
fn on_a_terminal(url: &str, rows: u16, columns: u16) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let inner = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(OFlags::NOCTTY.bits()).unwrap())
        .open(name.to_str().unwrap())
        .unwrap();
    let mut child = callboard(&["top", "--every", "1", "--at", url])
        .env("CALLBOARD_TOKEN", "reads")
        .stdout(inner)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut outer = std::fs::File::from(terminal);
    let mut drawn = Vec::new();
    // The last that is drawn of each look.
    while !drawn.ends_with(b"\x1b[J") {
        let mut some = [0; 1024];
        let count = outer.read(&mut some).unwrap();
        drawn.extend(&some[..count]);
    }
    drop(outer);
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    text(&drawn)
}

#[actix::test]
async fn it_fits_its_terminal_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let scheduler = scheduler("terminal-closed", folder.path()).await;
    let served = serve(&[&scheduler], "", judge);
    let url = served.url.clone();
    let drawn = spawn_blocking(move || on_a_terminal(&url, 5, 30))
        .await
        .unwrap();
    let drawn = drawn.strip_prefix("\u{1b}[H").unwrap();
    let lines: Vec<_> = drawn.split("\u{1b}[K\r\n").collect();
    assert_eq!(lines.len(), 5, "{drawn:?}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 30),
        "{drawn:?}"
    );
    assert_eq!(lines[0], "terminal-closed", "{drawn:?}");
    finish(scheduler, served).await;
}
