//! A node that breaks the rules: it speaks the wire as a node does, refuses, reports twice, and
//! reports what is another's.
//!
//! Owns: that node, on a thread in its namespace. It writes in a ledger like any other, and is
//! honest there. Does not know: the engine of a node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use callboard::__internals::engine::Incarnation;
use callboard::__internals::engine::message::{
    Assignment, Beat, End, Holding, KindOffer, NodeHello, RefusedBy, Report, ToNode, ToScheduler,
};
use callboard::__internals::inbox::Inbox;
use callboard::__internals::net::{
    LinkCommand, LinkConfig, LinkEvent, Role, Secret, Trust, dial, run_link,
};
use callboard::status::Failure;
use callboard::{Cause, Dispatch, TaskId};
use tokio::sync::oneshot;

use crate::cluster::WORKERS;
use crate::proxy::inside;
use crate::record::{self, Run};
use crate::scheduler::SECRET;
use crate::work::{Fails, Going, Ledger, RETRY, Work};

pub const NAME: &str = "double";
/// How many runs of others it reports at once.
const STOLEN: usize = 24;

/// A running double. Dropped, it is gone.
pub struct Double {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Double {
    pub fn start(namespace: &str, scheduler: String, directory: &Path) -> Self {
        let ledger = Arc::new(Ledger::open(directory, NAME));
        let directory = directory.to_owned();
        let (stop, stopped) = oneshot::channel();
        let thread = inside(namespace, async move {
            let mut node = State {
                directory,
                ledger,
                hello: 0,
                seq: 0,
                taken: 0,
            };
            tokio::select! {
                () = node.serve(&scheduler) => {}
                _ = stopped => {}
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct State {
    directory: PathBuf,
    ledger: Arc<Ledger>,
    hello: u64,
    seq: u64,
    taken: u64,
}

type Commands = Inbox<LinkCommand<ToScheduler>>;

impl State {
    /// Dials for ever.
    async fn serve(&mut self, scheduler: &str) {
        let trust = Trust::Secret(Secret::new(SECRET).unwrap());
        let config = LinkConfig::default();
        loop {
            if let Ok(proved) = dial(scheduler, &trust, Role::Node, &config).await {
                let (commands, events) = (Inbox::new(), Inbox::new());
                let given = events.clone();
                let link = run_link(proved, config.clone(), commands.clone(), move |batch| {
                    given.extend(batch);
                });
                tokio::select! {
                    () = link => {}
                    () = self.talk(&commands, &events) => {}
                }
            }
            // The pause between two dials. Nothing tells when the scheduler can be reached again.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn talk(&mut self, commands: &Commands, events: &Inbox<LinkEvent<ToNode>>) {
        let mut beat = Beat {
            number: 0,
            answered: 0,
            round_trip: None,
        };
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let mut up = false;
        // What runs ends with the link, and nothing of it is held.
        let mut running = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick(), if up => {
                    beat.number += 1;
                    commands.push(LinkCommand::Send(ToScheduler::Beat(beat)));
                }
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    let (number, assignment, going): (u64, Assignment, Going) = ended.unwrap();
                    self.report(commands, number, &assignment, going);
                }
                () = events.ready() => {}
            }
            let mut batch = Vec::new();
            events.take(&mut batch);
            for event in batch {
                match event {
                    LinkEvent::Message(ToNode::Hello(_)) => self.greet(commands),
                    LinkEvent::Message(ToNode::Welcome(_)) => up = true,
                    LinkEvent::Message(ToNode::Answer(number)) => beat.answered = number,
                    LinkEvent::Message(ToNode::Assign(assignments)) => {
                        for assignment in assignments {
                            self.taken += 1;
                            self.take(commands, assignment, &mut running);
                        }
                    }
                    LinkEvent::Closed(_) => return,
                    _ => {}
                }
            }
        }
    }

    fn greet(&mut self, commands: &Commands) {
        self.hello += 1;
        commands.push(LinkCommand::Send(ToScheduler::Hello(Box::new(NodeHello {
            number: self.hello,
            kinds: vec![KindOffer {
                kind: "async".to_owned(),
                blocking: false,
            }],
            workers: WORKERS,
            ..NodeHello::new(NAME, Incarnation(77))
        }))));
        let nothing = Holding {
            last: true,
            ..Holding::default()
        };
        commands.push(LinkCommand::Send(ToScheduler::Holding(nothing)));
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Takes assignments: every fourth is refused, the others are run.
    fn take(
        &mut self,
        commands: &Commands,
        assignment: Assignment,
        running: &mut tokio::task::JoinSet<(u64, Assignment, Going)>,
    ) {
        if self.taken.is_multiple_of(4) {
            let refused = Report::Refused {
                seq: self.next_seq(),
                task: assignment.task,
                dispatch: assignment.dispatch,
                reason: RefusedBy::NoWorker,
            };
            send(commands, vec![refused, Report::Ready]);
            return;
        }
        let work: Work = rmp_serde::from_slice(&assignment.args).unwrap();
        let going = Going::begin(
            Arc::clone(&self.ledger),
            assignment.task,
            assignment.dispatch,
            assignment.attempt,
            work.exclusive,
        );
        let number = self.taken;
        running.spawn(async move {
            // How long the run takes, so that some go on whenever a fault comes.
            tokio::time::sleep(Duration::from_millis(20)).await;
            (number, assignment, going)
        });
    }

    fn report(
        &mut self,
        commands: &Commands,
        number: u64,
        assignment: &Assignment,
        mut going: Going,
    ) {
        let end = verdict(assignment);
        going.ends(if matches!(end, End::Completed(_)) {
            "completed"
        } else {
            "failed"
        });
        drop(going);
        let (task, dispatch) = (assignment.task, assignment.dispatch);
        let ended = |seq, task, dispatch, end| Report::Ended {
            seq,
            task,
            dispatch,
            end,
            ran: Duration::from_millis(20),
            overrun: false,
        };
        let seq = self.next_seq();
        send(commands, vec![ended(seq, task, dispatch, end.clone())]);
        match number % 4 {
            // The very same once more.
            1 => send(commands, vec![ended(seq, task, dispatch, end)]),
            // It once more under another number.
            2 => {
                let seq = self.next_seq();
                send(commands, vec![ended(seq, task, dispatch, end)]);
            }
            // What others run at this moment, and what they have run.
            _ if number % 16 == 3 => {
                for run in others(&self.directory) {
                    let seq = self.next_seq();
                    let (task, dispatch) = (TaskId::new(run.task), Dispatch::new(run.dispatch));
                    send(commands, vec![ended(seq, task, dispatch, stolen())]);
                }
            }
            _ => {}
        }
    }
}

/// Returns the last runs of other nodes, those that have ended first: after the first one that goes
/// on the link is closed.
fn others(directory: &Path) -> Vec<Run> {
    let mut runs = record::runs(directory);
    runs.retain(|run| run.process != NAME);
    let mut last = runs.split_off(runs.len().saturating_sub(STOLEN));
    last.sort_by_key(|run| run.end.is_none());
    last
}

fn send(commands: &Commands, reports: Vec<Report>) {
    commands.push(LinkCommand::Send(ToScheduler::Reports(reports)));
}

/// Returns an end that no run ever had.
fn stolen() -> End {
    End::Completed(rmp_serde::to_vec(&(0u64, "stolen")).unwrap().into())
}

fn verdict(assignment: &Assignment) -> End {
    let work: Work = rmp_serde::from_slice(&assignment.args).unwrap();
    if assignment.attempt > work.fails {
        let output = (assignment.dispatch.get(), NAME);
        return End::Completed(rmp_serde::to_vec(&output).unwrap().into());
    }
    let cause = match work.how {
        Fails::Error => Cause::Error,
        Fails::Permanent => Cause::Permanent,
        Fails::Panic => Cause::Panic,
    };
    let failure = Failure::new(cause, "as it was told to");
    let last = RETRY
        .limit()
        .is_some_and(|limit| assignment.attempt >= limit);
    if last || work.how == Fails::Permanent {
        End::Failed(Box::new(failure))
    } else {
        End::Again {
            after: Duration::from_millis(50),
            failure: Box::new(failure),
        }
    }
}
