//! What an operator reads in the log.
//!
//! Owns: the level and the words of each event. Does not know: why it happened.

use crate::engine::Note;

pub(super) fn note(scheduler: &str, note: &Note) {
    match note {
        Note::NodeUp {
            name,
            epoch,
            joined,
            ..
        } => tracing::info!(scheduler, node = %name, %epoch, joined, "node up"),
        Note::NodeUnreachable { name, reason, .. } => {
            tracing::warn!(scheduler, node = %name, reason, "the link to a node is broken; it keeps its tasks for its lease");
        }
        Note::NodeLost {
            name,
            rerouted,
            reason,
            ..
        } => {
            tracing::warn!(scheduler, node = %name, rerouted, reason, "node lost; its tasks go elsewhere")
        }
        Note::NodeRefused { name, reason, .. } => {
            tracing::warn!(scheduler, node = %name, reason, "a node could not be reached, or was refused");
        }
        Note::NodeLeft { name, .. } => tracing::info!(scheduler, node = %name, "node left"),
        Note::NodeStalled { name, task, .. } => match task {
            Some(task) => {
                tracing::warn!(scheduler, node = %name, %task, "a handler blocks a thread of a node; use on_blocking");
            }
            None => tracing::warn!(scheduler, node = %name, "something blocks a thread of a node"),
        },
        Note::Unschedulable { task, reason } => {
            tracing::warn!(scheduler, %task, reason, "no node can run a task for now");
        }
    }
}
