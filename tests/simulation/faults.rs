//! How each fault of a plan is carried out.
//!
//! Owns: the translation. Does not know: when, or what must still hold.

use callboard::__internals::engine::node::{Gone, NodeEvent};
use callboard::retry::RetryPolicy;

use crate::cluster::{Cluster, Ev};
use crate::nodes::{Death, NodeIn};
use crate::oracle::Expectation;
use crate::plan::{Fault, MS, NEVER, SECOND, Time};
use crate::scheduler::SchedulerIn;

impl Cluster {
    pub fn fault(&mut self, index: usize) {
        if self.quiet {
            return;
        }
        let plan = self.plan.clone();
        let (_, fault) = &plan.faults[index];
        self.say(|| format!("# fault {fault:?}"));
        let wish = matches!(
            fault,
            Fault::Pause { .. }
                | Fault::Limit { .. }
                | Fault::CloseIntake { .. }
                | Fault::ClearClient { .. }
                | Fault::TellNobody { .. }
        );
        if !wish {
            self.oracle.on_fault(self.now, fault);
        }
        match *fault {
            Fault::RestartScheduler { down } => self.kill_scheduler_for(down),
            Fault::CloseScheduler { down } => self.close_scheduler(down),
            Fault::DieWithBatch { batch, keeps, down } => self.log_kills(batch, keeps, down),
            Fault::SetClockBack { by } => self.set_back += by,
            Fault::CopyStore => self.log_is_copied(),
            Fault::PutBack { marked, down } => {
                self.kill_scheduler_for(down);
                self.log_is_put_back(marked);
            }
            Fault::FreezeScheduler { span } => self.freeze_scheduler(span),
            Fault::StoreFull { span } => self.log_is_full(span),
            Fault::StoreUnknown { span } => self.log_is_unknown(span),
            Fault::ClientDies { gap } => {
                if let Some(client) = self.current_client {
                    self.client_dies(client);
                    let term = self.term;
                    self.after(gap, Ev::NewClient { term });
                }
            }
            Fault::ClientSlow { span } => {
                let until = self.now + span;
                if let Some(client) = self.current_client.and_then(|id| self.clients.get_mut(&id)) {
                    client.slow_until = until;
                }
            }
            Fault::ClearClient { gap } => self.clear_client(gap),
            Fault::TellNobody { span } => {
                self.tell_nobody(span.map_or(NEVER, |span| self.now + span));
            }
            Fault::OwnClientDies => {
                if let Some(client) = self.own_client() {
                    self.client_dies(client);
                }
            }
            Fault::SetWorkers { node, workers } => {
                self.command(SchedulerIn::SetWorkers(node, workers));
            }
            Fault::Pause { kind, span } => {
                self.command(SchedulerIn::Pause(kind, true));
                self.after(span, Ev::Unpause(index));
            }
            Fault::Limit { kind, span, .. } => {
                self.command(SchedulerIn::Limit(kind, Some(index)));
                self.after(span, Ev::Unpause(index));
            }
            Fault::CloseIntake { kind, span } => {
                self.command(SchedulerIn::Intake(kind, false));
                self.after(span, Ev::Unpause(index));
            }
            Fault::SetRetry { attempts } => {
                let retry = RetryPolicy::default().max_attempts(attempts);
                self.command(SchedulerIn::SetRetry(retry));
            }
            Fault::Neighbour(fault) => self.neighbour_fault(fault),
            Fault::Drain => self.command(SchedulerIn::Drain),
            Fault::FinishRunning => self.command(SchedulerIn::FinishRunning),
            Fault::RemoveNode { node, back } => {
                self.command(SchedulerIn::RemoveNode(node));
                self.return_later(node, back);
            }
            Fault::DrainNode { node, back } => {
                self.command(SchedulerIn::DrainNode(node));
                self.after(back, Ev::RemoveNode { node });
                self.return_later(node, back + self.plan.net.max * 4);
            }
            Fault::DeclareDead { node } => {
                // Whoever says so has seen that it is true.
                if self.live_proc(node).is_none() {
                    self.command(SchedulerIn::DeclareDead(node));
                }
            }
            _ => self.node_fault(fault),
        }
    }

    fn return_later(&mut self, node: usize, back: Time) {
        self.after(back, Ev::AddNode { node });
        self.after(back + SECOND, Ev::Boot { node });
    }

    /// Begins a fault of one node's process or machine. A node in the scheduler's own process has
    /// none of these.
    fn node_fault(&mut self, fault: &Fault) {
        let node = match *fault {
            Fault::CutHost { node, .. }
            | Fault::CutLink { node, .. }
            | Fault::Reset { node, .. }
            | Fault::Slow { node, .. }
            | Fault::KillProcess { node, .. }
            | Fault::KillHost { node, .. }
            | Fault::FreezeNode { node, .. }
            | Fault::Double { node }
            | Fault::KillOlder { node }
            | Fault::NodeDrains { node, .. }
            | Fault::NodeStops { node, .. }
            | Fault::NodeWorkers { node, .. }
            | Fault::Visit { node, .. }
            | Fault::Crowd { node }
            | Fault::NoThread { node, .. }
            | Fault::Stall { node, .. } => node,
            _ => return,
        };
        if self.nodes[node].local {
            return;
        }
        if let Fault::Double { .. } = fault {
            self.hosts.push(Default::default());
            self.spawn(node, self.hosts.len() - 1, false, true);
            return;
        }
        let Some(proc) = self.live_proc(node) else {
            return;
        };
        if let Fault::KillOlder { .. } = fault {
            let older = (0..proc).find(|&it| self.procs[it].node == node && self.procs[it].alive);
            older
                .into_iter()
                .for_each(|it| self.kill(it, Death::Process));
            return;
        }
        let host = self.procs[proc].host;
        match *fault {
            Fault::CutHost { up, down, span, .. } => self.cut_host(host, up, down, span),
            Fault::CutLink { up, down, span, .. } => {
                if let Some(link) = self.newest_link(proc) {
                    self.cut_link(link, up, down, span);
                }
            }
            Fault::Reset {
                tell_scheduler,
                tell_node,
                ..
            } => {
                if let Some(link) = self.newest_link(proc) {
                    self.reset(link, [tell_scheduler, tell_node]);
                }
            }
            Fault::Slow {
                bytes_per_ms, span, ..
            } => self.slow_host(host, bytes_per_ms, span),
            Fault::KillProcess { back, .. } => {
                self.expect_loss(proc, Death::Process);
                self.kill(proc, Death::Process);
                if let Some(back) = back {
                    self.after(back, Ev::Boot { node });
                }
            }
            Fault::KillHost { back, .. } => {
                self.expect_loss(proc, Death::Machine);
                self.cut_host(host, true, true, back.max(MS));
                self.kill(proc, Death::Machine);
                self.after(back + SECOND, Ev::Boot { node });
            }
            Fault::FreezeNode { span, .. } => self.freeze_node(proc, span),
            Fault::NodeDrains { back, .. } => {
                self.tell_node(proc, NodeIn::Event(NodeEvent::Drain));
                self.after(back, Ev::Boot { node });
            }
            Fault::NodeStops { back, .. } => {
                self.tell_node(proc, NodeIn::Event(NodeEvent::Stop));
                self.after(back, Ev::Boot { node });
            }
            Fault::NodeWorkers { workers, .. } => {
                let it = &mut self.procs[proc];
                it.most_workers = it.most_workers.max(workers);
                it.workers_changed = true;
                self.tell_node(proc, NodeIn::Event(NodeEvent::Workers(workers)));
            }
            Fault::NoThread { span, .. } => {
                self.procs[proc].no_thread_until = self.now + span;
            }
            Fault::Stall { span, .. } => self.stall(proc, span),
            Fault::Visit { stays, .. } => self.visit(proc, "visitor", stays),
            Fault::Crowd { .. } => self.crowd(proc),
            _ => {}
        }
    }

    fn expect_loss(&mut self, proc: usize, death: Death) {
        if let Some((expectation, span)) = self.loss_expected(proc, death) {
            let expectation: Box<Expectation> = Box::new(expectation);
            self.after(span, Ev::Expect(expectation));
        }
    }

    /// Ends a process whose machine says that it has nothing more to do.
    pub fn gone(&mut self, proc: usize, why: &Gone) {
        let name = self.procs[proc].name.clone();
        self.say(|| format!("{name} is gone: {why:?}"));
        if !self.procs[proc].alive {
            return;
        }
        let node = self.procs[proc].node;
        if let Some(run) = self.procs[proc].runs.values().next() {
            let text = format!("{name} is gone while {} goes on there", run.dispatch);
            self.fail("G10", run.task, text);
        }
        self.kill(proc, Death::Exit);
        if *why == Gone::Dismissed && self.nodes[node].listens && self.rng.bool() {
            // Whoever keeps it running starts it anew, for the next scheduler.
            let pause = self.rng.u64(..2 * SECOND);
            self.after(pause, Ev::Boot { node });
        }
    }
}

/// Returns how long it takes until a fault is over.
pub fn span_of(fault: &Fault) -> Time {
    match *fault {
        Fault::CutHost { span, .. }
        | Fault::CutLink { span, .. }
        | Fault::Slow { span, .. }
        | Fault::FreezeNode { span, .. }
        | Fault::FreezeScheduler { span }
        | Fault::StoreFull { span }
        | Fault::StoreUnknown { span }
        | Fault::ClientSlow { span }
        | Fault::NoThread { span, .. }
        | Fault::Stall { span, .. } => span,
        Fault::KillHost { back, .. } => back + SECOND,
        Fault::RestartScheduler { down }
        | Fault::CloseScheduler { down }
        | Fault::PutBack { down, .. } => down,
        Fault::Neighbour(fault) => fault.span(),
        Fault::Visit { stays, .. } => stays,
        Fault::Double { .. } => NEVER / 2,
        _ => 0,
    }
}
