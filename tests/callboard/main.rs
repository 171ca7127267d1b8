//! The binary `callboard`, as a process: its lines, its exit status, and what it says on stderr.
//!
//! Owns: a store that a scheduler could have left. Does not know: what the commands do within; see
//! the tests beside them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use callboard::__internals::engine::ledger::{Sealed, Stamp};
use callboard::__internals::engine::record::{
    AcceptedTask, FinalOutcome, Head, Record, Reserved, SettledTask, Term, Timing,
};
use callboard::__internals::engine::{SchedulerId, Timestamp};
use callboard::__internals::store::table::TableLog;
use callboard::__internals::store::writer::{CHECK_EVERY, LogWriter, Written};
use callboard::__internals::store::{Claimant, TaskLog};
use callboard::TaskId;

const WHO: Claimant<'static> = Claimant {
    scheduler: "orders",
    new_id: SchedulerId(1),
};

/// Makes a store with so many tasks, of which the first was cancelled.
fn store(folder: &Path, tasks: u64) -> PathBuf {
    let path = folder.join("store");
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    let second = Duration::from_secs(1);
    let head = Head {
        scheduler: WHO.scheduler.into(),
        scheduler_id: WHO.new_id,
        copied_from: None,
        term: Term(1),
        at: Timestamp(0),
        set_back: Duration::ZERO,
        timing: Timing {
            heartbeat: second,
            lease: second,
            outlive: second,
        },
        reserved: Reserved {
            tasks: tasks + 1,
            dispatches: 1,
        },
        nodes: Vec::new(),
        settings: Vec::new(),
    };
    let accepted = (1..=tasks).map(|id| {
        Record::Accepted(Box::new(AcceptedTask {
            id: TaskId::new(id),
            at: Timestamp(0),
            kind: "image.resize".into(),
            args: vec![id as u8; 100].into(),
            options: None,
        }))
    });
    let settled = Record::Settled(Box::new(SettledTask {
        id: TaskId::new(1),
        outcome: FinalOutcome::Cancelled,
        node: None,
        attempts: 0,
        reroutes: 0,
        started_at: None,
        at: Timestamp(0),
        busy: Vec::new(),
    }));
    let mut records = vec![Record::Head(Box::new(head))];
    records.extend(accepted);
    records.push(settled);
    let mut writer = LogWriter::new(Box::new(log), CHECK_EVERY);
    let (written, _) = writer.append(Sealed {
        stamp: Stamp {
            term: Term(1),
            batch: 1,
            next_task: tasks + 1,
            next_dispatch: 1,
            at: Timestamp(0),
        },
        records,
        truncate: None,
    });
    assert!(matches!(written, Written::Stored { .. }), "{written:?}");
    writer.close().unwrap();
    path
}

fn callboard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    command.arg("store").args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    callboard(args).output().unwrap()
}

/// Returns what it printed; it must have ended well.
fn printed(args: &[&str]) -> String {
    let output = run(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        (output.status.code(), &*err),
        (Some(0), ""),
        "{args:?}: {out}"
    );
    out
}

/// Returns what it said on stderr; it must have ended with this status, and printed nothing.
fn refused(args: &[&str], status: i32) -> String {
    let output = run(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        (output.status.code(), &*out),
        (Some(status), ""),
        "{args:?}: {err}"
    );
    err
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_command_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = store(folder.path(), 3);
    let file = path.to_str().unwrap();
    let in_folder = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(
        printed(&["list", file]),
        "t1\timage.resize\t0\tcancelled\t-\t0\t-\n\
         t2\timage.resize\t0\tpending\t-\t0\t-\n\
         t3\timage.resize\t0\tpending\t-\t0\t-\n"
    );
    let listed = printed(&[
        "list",
        file,
        "--state",
        "cancelled,placed",
        "--kind",
        "image.resize",
    ]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(printed(&["list", file, "--kind", "other"]), "");
    assert!(printed(&["show", file, "t2"]).starts_with("id: 2\nkind: \"image.resize\"\n"));
    assert_eq!(printed(&["export", file]).lines().count(), 3);
    assert_eq!(
        printed(&["check", file]),
        "All is whole: 1 batches, 3 tasks, and 0 that are kept.\n"
    );
    let copy = in_folder("copy");
    printed(&["backup", file, &copy]);
    assert_eq!(printed(&["export", &copy]), printed(&["export", file]));
    printed(&["salvage", file, &in_folder("saved")]);
    assert_eq!(
        printed(&["list", &in_folder("saved")]),
        printed(&["list", file])
    );
    let again = printed(&["execute-again", file, "1"]);
    let listed = printed(&["list", file, "--state", "pending"]);
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with(&format!("{}\t", again.trim()))),
        "{listed}"
    );
    printed(&["relive", file]);
    let claim = TableLog::at(&path).claim(&WHO).unwrap();
    assert_eq!(claim.copied_from, Some(SchedulerId(1)));
}

#[test]
fn what_cannot_be_done_is_said_in_words_and_by_the_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let path = store(folder.path(), 3);
    let file = path.to_str().unwrap();
    let missing = folder.path().join("missing");
    let error = refused(&["list", missing.to_str().unwrap()], 1);
    assert!(
        error.starts_with("callboard: there is no store at "),
        "{error}"
    );
    assert!(!missing.exists());
    let error = refused(&["show", file, "t9"], 1);
    assert!(error.contains("t9 is not in the store"), "{error}");
    let error = refused(&["backup", file, file], 1);
    assert!(error.contains("is there already"), "{error}");
    refused(&["show", file, "nine"], 2);
    refused(&["list", file, "--state", "lost"], 2);
    refused(&["polish", file], 2);
    let mut held = TableLog::at(&path);
    held.claim(&WHO).unwrap();
    let error = refused(&["list", file], 1);
    assert!(
        error.contains("another process has the store open"),
        "{error}"
    );
    drop(held);
    std::fs::write(&missing, vec![b'x'; 10_000]).unwrap();
    let error = refused(&["check", missing.to_str().unwrap()], 1);
    assert!(error.contains("no store of callboard"), "{error}");
}

#[test]
fn whoever_reads_its_lines_may_have_enough_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = store(folder.path(), 20_000);
    let mut child = callboard(&["export", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"{\"id\":1,\"k");
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new())
    );
}
