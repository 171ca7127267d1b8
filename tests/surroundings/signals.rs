//! Signals that ask a process to end, before, during and after [`callboard::NodeBuilder::run`].

use std::os::unix::process::ExitStatusExt;

use callboard::{NodeBuilder, NodeExit};
use futures_util::poll;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::board::{handlers, within};
use crate::child;

fn node() -> NodeBuilder {
    let node = callboard::node("signalled").handlers(handlers());
    node.listen("127.0.0.1:0")
}

fn send(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

/// Runs a node that gets this signal after the first poll.
async fn run_until(signal: Signal) {
    let run = node().run();
    tokio::pin!(run);
    assert!(poll!(&mut run).is_pending());
    send(signal);
    let gone = within("the run", run).await.unwrap();
    assert_eq!(gone, NodeExit::Drained);
}

#[test]
fn signals_count_from_the_first_poll_of_run() {
    assert!(child::play("signals-at-first").success());
}

/// Runs a node with each signal in turn, more than once.
pub fn from_the_first_poll() {
    actix_rt::System::new().block_on(async {
        for signal in [Signal::INT, Signal::TERM, Signal::INT, Signal::TERM] {
            run_until(signal).await;
        }
    });
}

#[test]
fn after_run_has_returned_a_signal_ends_the_process_as_it_would_without_the_library() {
    for (role, signal) in [
        ("terminated-afterwards", Signal::TERM),
        ("interrupted-afterwards", Signal::INT),
    ] {
        assert_eq!(child::play(role).signal(), Some(signal.as_raw()), "{role}");
    }
}

pub fn terminated_afterwards() {
    signalled_afterwards(Signal::TERM);
}

pub fn interrupted_afterwards() {
    signalled_afterwards(Signal::INT);
}

fn signalled_afterwards(signal: Signal) {
    actix_rt::System::new().block_on(run_until(Signal::TERM));
    send(signal);
    // It ends here, or is ended as failed.
    loop {
        std::thread::park();
    }
}

#[test]
fn after_run_has_returned_a_process_that_hears_signals_itself_still_does() {
    assert!(child::play("hears-signals").success());
}

/// Hears signals itself before, while and after a node runs.
pub fn heard_by_the_process_too() {
    actix_rt::System::new().block_on(async {
        let mut own = signal(SignalKind::terminate()).unwrap();
        run_until(Signal::TERM).await;
        within("the first", own.recv()).await.unwrap();
        send(Signal::TERM);
        within("the second", own.recv()).await.unwrap();
    });
}
