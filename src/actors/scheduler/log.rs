//! What an operator reads in the log.
//!
//! Owns: the level and the words of each event. Does not know: why it happened.

use crate::engine::Note;
use crate::say::say;

pub(super) fn note(scheduler: &str, note: &Note) {
    match note {
        Note::NodeUp {
            name,
            epoch,
            joined,
            ..
        } => say!(info: scheduler, node = %name, %epoch, joined, "node up"),
        Note::NodeUnreachable { name, reason, .. } => {
            say!(warn: scheduler, node = %name, reason, "the link to a node is broken; it keeps its tasks for its lease");
        }
        Note::NodeLost {
            name,
            rerouted,
            reason,
            ..
        } => {
            say!(warn: scheduler, node = %name, rerouted, reason, "node lost; its tasks go elsewhere")
        }
        Note::Rerouted {
            name,
            reason,
            count,
            ..
        } => say!(debug: scheduler, node = %name, reason, count, "tasks rerouted"),
        Note::NodeRefused { name, reason, .. } => {
            say!(warn: scheduler, node = %name, reason, "a node could not be reached, or was refused");
        }
        Note::NodeLeft { name, .. } => say!(info: scheduler, node = %name, "node left"),
        Note::NodeStalled { name, task, .. } => match task {
            Some(task) => {
                say!(warn: scheduler, node = %name, %task, "a handler blocks a thread of a node; use on_blocking");
            }
            None => {
                say!(warn: scheduler, node = %name, "something that is not of this scheduler blocks a thread of a node, or keeps workers of it");
            }
        },
        Note::Unschedulable { task, reason } => {
            say!(warn: scheduler, %task, reason, "no node can run a task for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::engine::NodeId;

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

    #[test]
    fn reroutes_are_told_at_debug_with_their_node_reason_and_count() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let rerouted = Note::Rerouted {
                node: NodeId(0),
                name: "slave1".into(),
                reason: "lost",
                count: 7,
            };
            note("test", &rerouted);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        for part in [
            "DEBUG",
            "tasks rerouted",
            "node=slave1",
            "reason=\"lost\"",
            "count=7",
        ] {
            assert!(text.contains(part), "{part} is not in {text:?}");
        }
    }
}
