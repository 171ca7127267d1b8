//! Dials and probes: whom the scheduler asks, and what an answer proves.
//!
//! Owns: when a node is dialled or probed. Does not know: what is said on a link that comes of it,
//! or what follows from a death.

use super::SchedulerMachine;
use super::losses::Loss;
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{NodeProcess, State};
use crate::engine::{Action, Incarnation, NodeId, Reach, Timestamp};

impl SchedulerMachine {
    /// Dials or probes a node that has been silent, or of which a process was replaced and may go
    /// on.
    pub(super) fn find_out(&mut self, now: Timestamp, node: NodeIndex) {
        // Whoever comes next asks.
        if self.stopped {
            return;
        }
        let silence = self.config.heartbeat.saturating_mul(2);
        let entry = self.roster.get(node);
        let wanted = entry.is_silent(now, silence) || entry.is_dialled_for_the_past();
        let answered = self.is_in_handshake(node) || self.hears_out(node);
        let entry = self.roster.get_mut(node);
        if let Reach::Dial(address) = &entry.reach
            && wanted
            && !answered
            && entry.is_dialled()
            && entry.redial.dial_due().is_some_and(|at| at <= now)
        {
            let address = address.clone();
            let found_at = entry.found_at().map(str::to_owned);
            entry.asked_at.clone_from(&found_at);
            let incarnation = entry.incarnation();
            entry.redial.begin_dial(now, incarnation, found_at.clone());
            self.actions.push(Action::Dial {
                node: Self::node_id(node),
                address,
                found_at,
            });
        }
        let entry = self.roster.get_mut(node);
        if entry.redial.probe_due().is_some_and(|at| at <= now)
            && let Some((incarnation, address)) = entry.to_probe()
        {
            let address = address.to_owned();
            entry.redial.begin_probe(now, incarnation, address.clone());
            self.actions.push(Action::Probe {
                node: Self::node_id(node),
                incarnation,
                address,
            });
        }
    }

    pub(super) fn dial_failed(
        &mut self,
        now: Timestamp,
        id: NodeId,
        refused: bool,
        reason: String,
    ) {
        let node = id.0;
        let silence = self.config.heartbeat.saturating_mul(2);
        let Some(entry) = self.roster.nodes.get_mut(node as usize) else {
            return;
        };
        if entry.redial.stale_dial_answered() {
            self.timers.wake_at(node, now);
            return;
        }
        let known = entry.redial.dial_failed(entry.usual_interval());
        if entry.is_vacant() {
            return;
        }
        let asked_at = entry.asked_at.take();
        let process = entry.latest_process();
        let same_incarnation = process.is_some_and(|process| {
            Some(process.incarnation) == known && entry.proves_dead(process, asked_at.as_deref())
        });
        let silent = entry.is_silent(now, silence);
        if !entry.is_up() {
            entry.reason = reason.clone();
        }
        if matches!(entry.state, State::Connecting) {
            self.note_refused(node, &reason);
        }
        // A refusal where a process was found proves that one dead, unless it was heard just now.
        if refused {
            if same_incarnation && silent {
                self.lose(now, node, Loss::Dead, &reason);
            }
            let entry = self.roster.get(node);
            let past = entry.past.iter();
            let ended: Vec<_> = past
                .filter(|process| entry.proves_dead(process, asked_at.as_deref()))
                .map(|process| process.incarnation)
                .collect();
            self.end_replaced(now, node, |process| ended.contains(&process.incarnation));
        }
        self.timers.wake_at(node, now);
    }

    pub(super) fn probed(
        &mut self,
        now: Timestamp,
        id: NodeId,
        incarnation: Incarnation,
        refused: bool,
    ) {
        let node = id.0;
        let Some(entry) = self.roster.nodes.get_mut(node as usize) else {
            return;
        };
        if entry.redial.stale_probe_answered() {
            self.timers.wake_at(node, now);
            return;
        }
        entry.redial.probed(entry.usual_interval());
        if entry.is_vacant() {
            return;
        }
        if refused {
            if entry.incarnation() == Some(incarnation) && !entry.is_up() {
                self.lose(
                    now,
                    node,
                    Loss::Dead,
                    "the port that it named for probes refuses connections",
                );
            }
            self.end_replaced(now, node, |process| process.incarnation == incarnation);
        }
        self.timers.wake_at(node, now);
    }

    pub(super) fn is_in_handshake(&self, node: NodeIndex) -> bool {
        let handshake = self.roster.get(node).handshake;
        let session = handshake.and_then(|link| self.sessions.get(link));
        session.is_some_and(|session| !session.is_up())
    }

    /// Returns whether a process of a node that was replaced is at the other end of a link, and is
    /// heard out there.
    fn hears_out(&self, node: NodeIndex) -> bool {
        let awaited = |process: &NodeProcess| !process.orphans.is_empty();
        self.roster.get(node).past.iter().any(awaited) && self.sessions.hear_out(node)
    }
}
