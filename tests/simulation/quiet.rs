//! The quiet at the end of a history: every fault heals, and what is pending gets its time.
//!
//! Owns: what is made whole then. Does not know: what must have ended (see `oracle`).

use crate::cluster::{Cluster, Ev};
use crate::network::Host;
use crate::oracle::Expectation;
use crate::plan::{Family, Fault, NEVER, SECOND, nanos};
use crate::scheduler::SchedulerIn;

impl Cluster {
    /// Heals every fault, and gives what is pending its time.
    pub fn begin_quiet(&mut self) {
        if self.plan.shut_down {
            self.shut_down();
            return;
        }
        self.say(|| "# quiet from here on".to_owned());
        self.quiet = true;
        self.operator_looks_at = self.now + 4 * nanos(self.plan.config.lease);
        for host in &mut self.hosts {
            *host = Host::default();
        }
        for link in &mut self.links {
            for pipe in &mut link.pipes {
                pipe.cut_until = 0;
            }
        }
        self.neighbour_heals();
        self.log_heals();
        self.heal(true);
        self.thaw_scheduler();
        self.restart_scheduler();
        for proc in 0..self.procs.len() {
            self.thaw_node(proc);
        }
        // Who wanted nobody to be told for good still does.
        if self.current_client.is_none() && self.nobody_until != NEVER {
            self.new_client();
        }
        for node in 0..self.nodes.len() {
            if self
                .plan
                .nodes
                .get(node)
                .is_none_or(|plan| plan.from <= self.now)
            {
                self.boot(node);
            }
        }
        if self.plan.family != Family::Order {
            let rescue = self.nodes.len() - 1;
            self.command(SchedulerIn::AddNode(rescue));
        }
        self.heal_workers();
        self.heal_pauses();
        self.after(
            nanos(self.plan.config.lease) * 40 + 600 * SECOND,
            Ev::Expect(Box::new(Expectation::Ended)),
        );
    }

    /// Takes back each change of the number of workers: none outlasts the faults.
    pub fn heal_workers(&mut self) {
        let changed = self.plan.faults.iter().any(|(_, fault)| {
            matches!(fault, Fault::SetWorkers { .. } | Fault::NodeWorkers { .. })
        });
        if changed {
            self.command(SchedulerIn::SetWorkers(None, 3));
        }
    }
}
