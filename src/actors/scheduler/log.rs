//! What an operator reads in the log.
//!
//! Owns: the level and the words of each event, and that what happens again and again is told ever
//! more rarely. Does not know: why it happened.

use crate::engine::{Note, Timestamp};
use crate::repeats::{Bounded, Repeats};
use crate::say::say;
use crate::stats::{ClientState, StatusRoom};

/// The log of one scheduler.
#[derive(Default)]
pub(super) struct Log {
    repeats: Repeats,
    /// Clients that keep a scheduler at a bound bring it there again each time that they catch up.
    held: Repeats,
    failures: Bounded,
}

impl Log {
    pub(super) fn note(&mut self, scheduler: &str, note: &Note, now: Timestamp) {
        match note {
            Note::NodeUp {
                name,
                incarnation,
                joined,
                ..
            } => {
                if let Some(times) = self.repeats.over(name) {
                    say!(info: scheduler, node = %name, times, "warnings about this node are over");
                }
                say!(info: scheduler, node = %name, %incarnation, joined, "node up");
            }
            Note::NodeUnreachable { name, reason, .. } => {
                say!(warn: scheduler, node = %name, reason, "the link to a node is broken; it keeps its tasks for its lease");
            }
            Note::NodeLost {
                name,
                rerouted,
                reason,
                ..
            } => {
                say!(warn: scheduler, node = %name, rerouted, reason, "node lost; its tasks go elsewhere");
            }
            Note::Rerouted {
                name,
                reason,
                count,
                ..
            } => {
                say!(debug: scheduler, node = %name, reason, count, "tasks rerouted");
            }
            Note::NodeRefused { name, reason, .. } => {
                if let Some(untold) = self.repeats.tell(name, reason, now) {
                    say!(warn: scheduler, node = %name, reason, repeated = untold, "no link to a node has come about");
                }
            }
            Note::NodeLeft { name, .. } => say!(info: scheduler, node = %name, "node left"),
            Note::NodeStalled { name, task, .. } => match task {
                Some((task, kind)) => {
                    say!(warn: scheduler, node = %name, %task, %kind, "a handler blocks a thread of a node; use on_blocking");
                }
                None => {
                    say!(warn: scheduler, node = %name, "workers of a node are out of use: something blocks their thread, another start of a scheduler keeps them, or no thread can be started for them");
                }
            },
            Note::Failed { .. } => self.failed(scheduler, note, now),
            Note::SlowLink {
                name,
                round_trip,
                lease,
                ..
            } => {
                say!(warn: scheduler, node = %name, ?round_trip, ?lease, "a round trip on the link of a node takes more than a fifth of the lease, so a short silence may lose the node; raise `lease`");
            }
            Note::StatusesHeld {
                held,
                limit,
                bytes,
                bytes_limit,
                room,
                client,
            } => {
                let words = match (room, client) {
                    (StatusRoom::None, ClientState::Awaited) => {
                        "no client is set, and as many statuses are held for one as may be: nothing is placed or accepted but what a `run` or `execute_and_wait` waits for; set a client, or say `no_client`"
                    }
                    (StatusRoom::None, _) => {
                        "clients are behind, and as many statuses are held for them as may be: nothing is placed or accepted but what a `run` or `execute_and_wait` waits for"
                    }
                    (StatusRoom::Low | StatusRoom::Ample, _) => {
                        "no client is set, and statuses are held for one; at the limit nothing more is accepted: set a client, or say `no_client`"
                    }
                };
                if let Some(untold) = self.held.tell(words, words, now) {
                    say!(warn: scheduler, held, limit, bytes, bytes_limit, repeated = untold, "{words}");
                }
            }
            Note::RolledBack { seen } => {
                say!(error: scheduler, %seen, "the store was put back to an earlier state: a node was sent what it knows nothing of; tasks that were accepted since are gone, and some that have settled may run again");
            }
            Note::StoreFailing { reason } => {
                say!(error: scheduler, reason, "nothing can be stored: no task is accepted, and no ending is told, until it can");
            }
            Note::StoreBack { failed_for } => {
                say!(info: scheduler, failed_for = ?failed_for, "the store goes on");
            }
            Note::Unschedulable { task, kind, reason } => {
                say!(warn: scheduler, %task, %kind, reason, "no node can run a task for now");
            }
        }
    }

    fn failed(&mut self, scheduler: &str, note: &Note, now: Timestamp) {
        let Note::Failed {
            task,
            kind,
            attempt,
            node,
            failure,
            again,
        } = note
        else {
            return;
        };
        let Some(untold) = self.failures.tell(kind.as_str(), now) else {
            return;
        };
        let (node, message) = (node.as_deref().unwrap_or("none"), &*failure.message);
        let (cause, place) = (failure.cause, failure.place.as_deref());
        match again {
            true => {
                say!(warn: scheduler, %task, %kind, attempt, node, %cause, reason = message, place, repeated = untold, "an attempt panicked; the task is tried again");
            }
            false => {
                say!(warn: scheduler, %task, %kind, attempt, node, %cause, reason = message, place, repeated = untold, "a task has failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::engine::{Incarnation, NodeId};
    use crate::status::{Cause, Failure};
    use crate::task::TaskId;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what is written of what a log is told.
    fn written(tell: impl FnOnce(&mut Log)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || tell(&mut Log::default()));
        let text = lines.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_task_that_failed_is_told_with_its_kind_attempt_cause_and_node() {
        let text = written(|log| {
            let failed = Note::Failed {
                task: TaskId::new(7),
                kind: "resize".into(),
                attempt: 3,
                node: Some("node-1".into()),
                failure: Failure::new(Cause::Panic, "boom").raised_at(Some("src/work.rs:7".into())),
                again: false,
            };
            log.note("test", &failed, Timestamp::default());
        });
        for part in [
            "WARN",
            "a task has failed",
            "task=t7",
            "kind=resize",
            "attempt=3",
            "node=\"node-1\"",
            "cause=panic",
            "reason=\"boom\"",
            "place=\"src/work.rs:7\"",
        ] {
            assert!(text.contains(part), "{part} is not in {text:?}");
        }
    }

    #[test]
    fn a_node_that_stays_away_is_told_of_ever_more_rarely_and_once_when_it_is_back() {
        let text = written(|log| {
            let refused = Note::NodeRefused {
                node: None,
                name: "node-1".into(),
                reason: "connection refused".to_owned(),
            };
            for half in 0..2 * 3600 {
                let now = Timestamp::default() + Duration::from_millis(500 * half);
                log.note("test", &refused, now);
            }
            let up = Note::NodeUp {
                node: NodeId(0),
                name: "node-1".into(),
                incarnation: Incarnation(1),
                joined: false,
            };
            log.note("test", &up, Timestamp::default());
        });
        let warned = text.matches("no link to a node has come about").count();
        assert!((2..20).contains(&warned), "{warned} lines in an hour");
        assert_eq!(text.matches("are over").count(), 1);
        assert!(text.contains("times=7200"), "{text}");
    }

    #[test]
    fn a_slow_link_is_warned_of_with_the_knob() {
        let text = written(|log| {
            let slow = Note::SlowLink {
                node: NodeId(0),
                name: "node-1".into(),
                round_trip: Duration::from_secs(4),
                lease: Duration::from_secs(15),
            };
            log.note("test", &slow, Timestamp::default());
        });
        for part in [
            "WARN",
            "node=node-1",
            "round_trip=4s",
            "lease=15s",
            "raise `lease`",
        ] {
            assert!(text.contains(part), "{part} is not in {text:?}");
        }
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn reroutes_are_told_at_debug_with_their_node_reason_and_count() {
        let text = written(|log| {
            let rerouted = Note::Rerouted {
                node: NodeId(0),
                name: "node-1".into(),
                reason: "lost",
                count: 7,
            };
            log.note("test", &rerouted, Timestamp::default());
        });
        for part in [
            "DEBUG",
            "tasks rerouted",
            "node=node-1",
            "reason=\"lost\"",
            "count=7",
        ] {
            assert!(text.contains(part), "{part} is not in {text:?}");
        }
    }

    #[test]
    fn clients_that_keep_a_scheduler_at_its_bound_are_warned_of_ever_more_rarely() {
        let text = written(|log| {
            let note = |room| Note::StatusesHeld {
                held: 7,
                limit: 7,
                bytes: 0,
                bytes_limit: 100,
                room,
                client: ClientState::Awaited,
            };
            // Ten times a second for a minute it is at the bound, and at a tenth of it between.
            for tenth in 0..600 {
                let now = Timestamp(1_000_000_000_000) + Duration::from_millis(100) * tenth;
                log.note("board", &note(StatusRoom::None), now);
                log.note("board", &note(StatusRoom::Low), now);
            }
        });
        // Each of the two at once, after 10 s, and 20 s later.
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.lines().all(|line| line.contains("WARN")), "{text}");
    }
}
