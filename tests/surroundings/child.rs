//! A role of this binary as a process of its own.
//!
//! A process under a limit sets that for itself, when all is started that it needs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// Names the role in the environment of the process.
const ROLE: &str = "CALLBOARD_SURROUNDINGS_ROLE";
/// What a process says when its role has begun.
const BEGUN: &str = "role begun";
/// How long a role may take before its process ends itself as failed.
const LIMIT: Duration = Duration::from_secs(60);

/// Plays the role that the environment names, and then ends the process: with zero unless it
/// panics.
pub fn act_if_told(roles: &[(&str, fn())]) {
    let Ok(told) = std::env::var(ROLE) else {
        return;
    };
    let (_, role) = roles.iter().find(|(name, _)| *name == told).unwrap();
    thread::spawn(|| {
        thread::sleep(LIMIT);
        std::process::exit(124);
    });
    println!("{BEGUN}");
    let played = std::panic::catch_unwind(role);
    std::process::exit(i32::from(played.is_err()));
}

/// Starts a role.
pub fn start(role: &str, errors: Stdio) -> Child {
    start_by(&[], role, errors)
}

/// Starts it by a command that runs another, if there is one.
fn start_by(command: &[&str], role: &str, errors: Stdio) -> Child {
    let binary = std::env::current_exe().unwrap();
    let words = command.iter().map(AsRef::as_ref);
    let mut words = words.chain([binary.as_os_str()]);
    Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap()
}

/// Plays a role to its end. What it writes to its errors is shown with the test's.
pub fn play(role: &str) -> ExitStatus {
    let output = start(role, Stdio::inherit()).wait_with_output();
    output.unwrap().status
}

/// Does the same by a command that runs another.
pub fn play_by(command: &[&str], role: &str) -> ExitStatus {
    let output = start_by(command, role, Stdio::inherit()).wait_with_output();
    output.unwrap().status
}

/// Plays a role to its end, of whose output nobody reads more than the first lines, as `head -1`
/// does.
pub fn play_unread(role: &str) -> ExitStatus {
    let mut child = start(role, Stdio::piped());
    drop(child.stderr.take());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains(BEGUN))));
    drop(lines);
    child.wait().unwrap()
}
