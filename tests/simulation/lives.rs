//! The lives of the scheduler's process: its sleeps, its deaths and its starts.
//!
//! Owns: what becomes of all that lives in it or is linked to it. Does not know: when one is due.

use std::time::Duration;

use crate::cluster::{Cluster, Ev};
use crate::network::DOWN;
use crate::nodes::Death;
use crate::plan::{MS, SECOND, Time};
use crate::scheduler::{Scheduler, SchedulerIn, clock};

/// For how long a scheduler that ends its term waits until all is stored.
pub const CLOSING: Time = SECOND;

impl Cluster {
    pub fn freeze_scheduler(&mut self, span: Time) {
        if !self.scheduler.alive || self.scheduler.frozen {
            return;
        }
        self.say(|| {
            format!(
                "# the scheduler freezes for {:?}",
                Duration::from_nanos(span)
            )
        });
        self.scheduler.frozen = true;
        self.scheduler.frozen_at = self.now;
        self.oracle.disturbed(self.now + span);
        self.after(span, Ev::ThawScheduler);
        for proc in 0..self.procs.len() {
            if self.procs[proc].local && self.procs[proc].alive {
                self.freeze_node(proc, span + 1);
            }
        }
    }

    pub fn thaw_scheduler(&mut self) {
        if !self.scheduler.alive || !self.scheduler.frozen {
            return;
        }
        self.say(|| "# the scheduler wakes".to_owned());
        self.oracle.slept_twice_until = self.slept_twice().then_some(self.now);
        self.scheduler.woke_at = Some(self.now);
        self.scheduler.frozen = false;
        // Its driver reads the sockets before the tick.
        while let Some(command) = self.scheduler.inbox.pop_front() {
            self.scheduler_handles(command);
            if self.rng.u32(..4) == 0 {
                self.flush_scheduler();
            }
        }
        self.scheduler.tick_at = None;
        self.tick_scheduler();
    }

    pub fn restart_scheduler(&mut self) {
        if self.scheduler.alive {
            return;
        }
        let mut log = self.scheduler.log.take();
        match &mut log {
            Some(log) => self.judge_found(log),
            None => {
                self.life += 1;
                self.oracle.new_life();
            }
        }
        if self.oracle.broken.is_some() {
            return;
        }
        self.term += 1;
        let (term, life) = (self.term, self.life);
        let wall = clock(self.now) - Duration::from_nanos(self.set_back);
        self.oracle.clock_was_set |= self.set_back > 0;
        self.say(|| format!("# the scheduler starts, term {term} of life {life}"));
        // So that no tick of an earlier term is taken for one of this.
        let generation = self.scheduler.generation + 1;
        self.scheduler = Scheduler::start((term, life), log, &self.plan, self.now, wall);
        self.scheduler.generation = generation;
        self.oracle.new_term(self.now);
        self.current_client = None;
        match self.nobody_until {
            until if until > self.now => self.tell_nobody(until),
            _ => self.new_client(),
        }
        for node in 0..self.nodes.len() {
            let known = if self.quiet {
                true
            } else {
                node + 1 < self.nodes.len()
            };
            if known && self.nodes[node].from <= self.now {
                self.command(SchedulerIn::AddNode(node));
            }
        }
    }

    /// Ends the scheduler's term, and kills it when that is stored. Without a store, or asleep, it
    /// dies at once.
    pub fn close_scheduler(&mut self, down: Time) {
        if self.scheduler.log.is_none() || !self.scheduler.alive || self.scheduler.frozen {
            self.kill_scheduler_for(down);
            return;
        }
        self.say(|| "# the scheduler ends its term".to_owned());
        self.scheduler.draining = true;
        self.kill_own_processes();
        self.scheduler.machine.close(clock(self.now));
        self.flush_scheduler();
        self.go_on_closing(self.now + CLOSING, down);
    }

    pub fn go_on_closing(&mut self, until: Time, down: Time) {
        let storing = self.scheduler.machine.is_storing();
        if self.scheduler.alive && storing && self.now < until {
            let term = self.term;
            self.after(MS, Ev::Closing { term, until, down });
            return;
        }
        self.kill_scheduler_for(down);
    }

    /// Kills the scheduler's process, and lets it start again after so long.
    pub fn kill_scheduler_for(&mut self, down: Time) {
        self.kill_scheduler();
        self.after(down, Ev::RestartScheduler);
    }

    fn kill_own_processes(&mut self) {
        for proc in 0..self.procs.len() {
            if self.procs[proc].local && self.procs[proc].alive {
                self.kill(proc, Death::Machine);
            }
        }
    }

    pub fn kill_scheduler(&mut self) {
        if !self.scheduler.alive {
            return;
        }
        self.say(|| "# the scheduler dies".to_owned());
        self.note_dropped();
        self.scheduler.alive = false;
        self.scheduler.frozen = false;
        self.scheduler.dirty = false;
        self.scheduler.inbox.clear();
        self.scheduler.generation += 1;
        self.note_what_is_stored();
        self.log_crashes();
        self.oracle.disturbed(self.now);
        self.kill_own_processes();
        for link in 0..self.links.len() {
            self.abandon(link, DOWN, Death::Process);
        }
    }
}
