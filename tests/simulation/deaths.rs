//! How the processes of nodes end, and how they sleep.
//!
//! Owns: what is left of a process then. Does not know: when, or why.

use std::time::Duration;

use crate::cluster::{Cluster, Ev};
use crate::network::UP;
use crate::nodes::Death;
use crate::plan::Time;

impl Cluster {
    /// Ends a process.
    pub fn kill(&mut self, proc: usize, death: Death) {
        self.say(|| format!("# process {proc} ends: {death:?}"));
        let it = &mut self.procs[proc];
        it.alive = false;
        it.ended_at = Some(self.now);
        it.inbox.clear();
        it.pipelines.clear();
        it.told.clear();
        it.runs.clear();
        self.listeners.retain(|_, listener| *listener != proc);
        for link in 0..self.links.len() {
            if self.links[link].proc == proc {
                self.abandon(link, UP, death);
            }
        }
    }

    pub fn freeze_node(&mut self, proc: usize, span: Time) {
        if !self.procs[proc].alive || self.procs[proc].frozen {
            return;
        }
        self.say(|| {
            format!(
                "# process {proc} freezes for {:?}",
                Duration::from_nanos(span)
            )
        });
        self.procs[proc].frozen = true;
        self.oracle.disturbed(self.now + span);
        self.after(span, Ev::ThawNode { proc });
    }

    pub fn thaw_node(&mut self, proc: usize) {
        if !self.procs[proc].alive || !self.procs[proc].frozen {
            return;
        }
        self.say(|| format!("# process {proc} wakes"));
        self.procs[proc].frozen = false;
        let inbox = std::mem::take(&mut self.procs[proc].inbox);
        let tick_at = self.rng.usize(..=inbox.len());
        for (index, event) in inbox.into_iter().enumerate() {
            if index == tick_at {
                self.tick_node(proc);
            }
            if !self.procs[proc].alive {
                return;
            }
            self.node_handles(proc, event);
            if self.rng.u32(..4) == 0 {
                self.flush_node(proc);
            }
            if !self.procs[proc].alive {
                return;
            }
        }
        self.procs[proc].tick_at = None;
        self.tick_node(proc);
        self.woke(proc);
    }
}
