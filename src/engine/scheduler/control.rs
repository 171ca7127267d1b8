//! An operator's wishes: nodes added, removed and drained, settings changed, the end of the
//! scheduler.
//!
//! Owns: the commands that are not about one task. Does not know: how they are asked for.

use std::sync::Arc;

use super::{Intake, Rest, SchedulerMachine};
use crate::config::NodeConfig;
use crate::engine::message::{NAME_RULE, ToNode, is_name};
use crate::engine::meter::AttemptResult;
use crate::engine::placement::NodeIndex;
use crate::engine::record::Setting;
use crate::engine::roster::Node;
use crate::engine::{ClientId, NodeId, Reach, Timestamp};
use crate::error::NodeError;
use crate::retry::RetryPolicy;
use crate::status::{Outcome, TaskStatus};

impl SchedulerMachine {
    /// Adds a node. A dialled one is dialled at the next effects.
    ///
    /// # Errors
    ///
    /// [`NodeError::NameTaken`], also while a removed node of this name has not said goodbye and
    /// its lease is not over, [`NodeError::Invalid`] for a name that is empty, too long or has
    /// control or invisible characters, and [`NodeError::Stopped`] after the end of this scheduler.
    pub fn add_node(
        &mut self,
        now: Timestamp,
        name: Arc<str>,
        reach: Reach,
    ) -> Result<NodeId, NodeError> {
        self.observe(now);
        if self.stopped {
            return Err(NodeError::Stopped);
        }
        if !is_name(&name) {
            return Err(NodeError::Invalid(format!(
                "the name of a node must have {NAME_RULE}"
            )));
        }
        if let Some(node) = self.claim_recorded(now, &name, &reach) {
            return Ok(Self::node_id(node));
        }
        // The process of a node that was removed answers for its runs until it has ended.
        if self.roster.names.contains_key(&name) || self.leaving(&name).is_some() {
            return Err(NodeError::NameTaken(name.to_string()));
        }
        let node = self.enter_node(name, reach);
        self.timers.wake_at(node, now);
        Ok(Self::node_id(node))
    }

    /// Returns whether a node is up.
    pub fn is_up(&self, node: NodeId) -> bool {
        let entry = self.roster.nodes.get(node.0 as usize);
        entry.is_some_and(Node::is_up)
    }

    /// Returns whether a process of a node may be alive, and so be at work for this scheduler.
    pub fn may_work(&self, node: NodeId) -> bool {
        let entry = self.roster.nodes.get(node.0 as usize);
        entry.is_some_and(|entry| entry.latest_process().is_some())
    }

    /// Sets whether a refusal at a node's address means that its process is dead; without it the
    /// addresses decide that both sides of its link see. It holds for links from now on.
    pub fn believe_refusals(&mut self, node: NodeId, refusal_means_dead: Option<bool>) {
        if let Some(entry) = self.roster.nodes.get_mut(node.0 as usize) {
            entry.refusal_means_dead = refusal_means_dead;
        }
    }

    /// Takes a node out: it is told to leave, as soon as it can be reached, and its tasks go
    /// elsewhere. What waits for the end of a run there, an exclusive task or a key, waits for its
    /// goodbye, a proof that it is dead, or the end of its lease. After that the caller vouches
    /// that it is dead.
    ///
    /// # Errors
    ///
    /// [`NodeError::NotFound`].
    pub fn remove_node(&mut self, now: Timestamp, name: &str) -> Result<(), NodeError> {
        self.observe(now);
        let node = self.find_node(name)?;
        self.not_recorded(node);
        self.node_changed(node);
        self.roster.names.remove(name);
        self.roster.leaving.insert(node);
        let entry = self.roster.get_mut(node);
        entry.leave();
        if let Some(link) = entry.link() {
            self.send(link, ToNode::Leave);
        }
        self.give_up_runs(now, node);
        self.set_present(node, false);
        self.enter_load(node);
        self.finish_removal(now, node);
        self.timers.wake_at(node, now);
        Ok(())
    }

    /// Takes an operator's word that no process of this name is alive, save one that is heard: what
    /// waits for the end of a run there goes on at once. The node stays, and is dialled as before.
    ///
    /// # Errors
    ///
    /// [`NodeError::NotFound`], and [`NodeError::Alive`] if its only process was heard within two
    /// heartbeats.
    pub fn declare_dead(&mut self, now: Timestamp, name: &str) -> Result<(), NodeError> {
        self.observe(now);
        let member = self.roster.names.get(name).copied();
        let nodes: Vec<_> = member.into_iter().chain(self.leaving(name)).collect();
        if nodes.is_empty() {
            return Err(NodeError::NotFound(name.to_owned()));
        }
        let mut declared = false;
        for node in nodes {
            declared |= self.declared_dead(now, node);
        }
        if declared {
            Ok(())
        } else {
            Err(NodeError::Alive(name.to_owned()))
        }
    }

    /// Sends the tasks of a node that was taken out elsewhere.
    fn give_up_runs(&mut self, now: Timestamp, node: NodeIndex) {
        self.unsend_all(node);
        for slot in self.runs_of(node) {
            if self.tasks.get(slot).is_cancelling() {
                self.abandon_cancelled(now, slot);
                continue;
            }
            let run = self.abandon(slot, AttemptResult::Lost);
            self.rerouted(slot, node, "removed");
            // The node may speak for it until it has ended, and nobody may then.
            self.await_return(slot, run);
        }
        let entry = self.roster.get_mut(node);
        if entry.is_up() {
            entry.channel_mut().told_to_leave();
        }
    }

    /// Lets a node finish what runs and gives it nothing new. [`crate::engine::Note::NodeLeft`]
    /// tells when it is done. A node that has not come so far, or whose process has ended, drains
    /// when it comes; the process after that takes tasks again.
    ///
    /// # Errors
    ///
    /// [`NodeError::NotFound`].
    pub fn drain_node(&mut self, now: Timestamp, name: &str) -> Result<(), NodeError> {
        self.observe(now);
        let node = self.find_node(name)?;
        let entry = self.roster.get_mut(node);
        if entry.drain()
            && let Some(link) = entry.link()
        {
            self.send(link, ToNode::Drain);
            // The node goes only when it has been told that its reports were taken.
            self.roster.touch(node);
        }
        self.set_present(node, false);
        self.enter_load(node);
        Ok(())
    }

    /// Sets the workers of one node, or of all present and future ones.
    ///
    /// # Errors
    ///
    /// [`NodeError::NotFound`], or [`NodeError::Invalid`] for more than 1,000,000.
    pub fn set_workers(
        &mut self,
        now: Timestamp,
        node: Option<&str>,
        workers: u32,
    ) -> Result<(), NodeError> {
        self.observe(now);
        if workers > NodeConfig::MAX_WORKERS {
            return Err(NodeError::Invalid(
                "a node may have at most 1,000,000 workers".to_owned(),
            ));
        }
        let nodes = match node {
            Some(name) => vec![self.find_node(name)?],
            None => {
                self.set(Setting::MaxWorkers(workers));
                self.roster.names.values().copied().collect()
            }
        };
        for node in nodes {
            let entry = self.roster.get_mut(node);
            entry.load.want_workers(workers);
            if let Some(link) = entry.link() {
                self.send(link, ToNode::Workers(workers));
            }
            self.roster.touch(node);
        }
        Ok(())
    }

    /// Sets the policy of tasks that bring none, for attempts that start from now on.
    pub fn set_retry(&mut self, now: Timestamp, retry: RetryPolicy) {
        self.observe(now);
        self.config.retry = retry;
        self.set(Setting::Retry(retry));
        for link in self.links_up() {
            self.send(link, ToNode::Retry(retry));
        }
    }

    /// Sets the current client. Statuses that wait for one go to it.
    pub fn set_client(&mut self, now: Timestamp, client: Option<ClientId>) {
        self.observe(now);
        self.outbox.set_current(client);
    }

    /// Lets nobody be told how tasks end that have no client of their own; what waits for the next
    /// client is dropped.
    pub fn tell_nobody(&mut self, now: Timestamp) {
        self.observe(now);
        self.outbox.tell_nobody();
    }

    /// Returns the current client.
    pub fn client(&self) -> Option<ClientId> {
        self.outbox.current()
    }

    /// Returns whether statuses wait for a client, or for its confirmation.
    pub fn has_unconfirmed(&self) -> bool {
        self.outbox.held() > 0
    }

    /// Refuses every further submission, for good.
    pub fn drain(&mut self, now: Timestamp) {
        self.observe(now);
        if self.intake == Intake::Open {
            self.intake = Intake::Draining;
        }
    }

    /// Refuses every further submission and places nothing more, for good, and asks back what has
    /// not started.
    pub fn finish_running(&mut self, now: Timestamp) {
        self.observe(now);
        self.intake = Intake::Finishing;
    }

    /// Ends this scheduler: every node is told so, and what is left is handed over.
    pub fn shut_down(&mut self, now: Timestamp) -> Rest {
        self.observe(now);
        self.drain(now);
        self.stopped = true;
        for link in self.links_up() {
            self.send(link, ToNode::End);
        }
        let unfinished = self.unfinished();
        let named = unfinished.iter().filter_map(|it| {
            let task = self.tasks.get(self.tasks.find(it.id)?);
            Some((task.addressee.audience(), task.watcher()))
        });
        let rest = Rest {
            named: named.collect(),
            unfinished,
            statuses: self.outbox.take_all(),
        };
        self.end_all_patience();
        if let Some(journal) = &mut self.journal {
            let told = |status: &&TaskStatus| !matches!(status.outcome, Outcome::Refused(_));
            let untold = rest.statuses.iter().filter(told).map(|status| status.id);
            journal.end(now, Some(untold.collect()));
        }
        rest
    }

    pub(super) fn links_up(&self) -> Vec<crate::engine::LinkId> {
        self.roster.nodes.iter().filter_map(Node::link).collect()
    }

    /// Returns the node of this name that was taken out and has not ended.
    pub(super) fn leaving(&self, name: &str) -> Option<NodeIndex> {
        let mut leaving = self.roster.leaving.iter().copied();
        leaving.find(|&node| *self.roster.get(node).name == *name)
    }

    fn find_node(&self, name: &str) -> Result<NodeIndex, NodeError> {
        self.roster
            .names
            .get(name)
            .copied()
            .ok_or_else(|| NodeError::NotFound(name.to_owned()))
    }
}
