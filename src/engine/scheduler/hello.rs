//! A node's hello: who it is, which incarnation of it, and whether it may be that.
//!
//! Owns: the check of a hello and the record of a node that was not known. Does not know: what the
//! node holds.

use super::SchedulerMachine;
use super::losses::Loss;
use crate::config::FRAME_OVERHEAD;
use crate::engine::catalogue::names_bytes;
use crate::engine::message::{MAX_KINDS, MAX_LABELS, NodeHello, VERSION_MAX, VERSION_MIN, is_name};
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{Load, Node, NodeProcess};
use crate::engine::{LinkId, Reach, Timestamp};
use crate::error::LinkRefusal;
use crate::task::TaskKind;

/// The most names of nodes. Beyond it a node may join only under a name that is known. Nodes that
/// are gone do not count, and are forgotten in time (see `forgetting`).
pub(super) const MAX_NODES: usize = 10_000;
/// About how many bytes the kinds and labels of all nodes may take: each of ten thousand may bring
/// hundreds of its own.
const MAX_OFFERED_BYTES: usize = 256 << 20;

impl SchedulerMachine {
    pub(super) fn node_hello(
        &mut self,
        now: Timestamp,
        link: LinkId,
        mut hello: NodeHello,
    ) -> Result<(), String> {
        check_hello(&hello)?;
        hello.probe = self.address_to_probe(link, &hello);
        let name = hello.node.clone();
        if hello.version_min > VERSION_MAX || hello.version_max < VERSION_MIN {
            let refusal = LinkRefusal::Version {
                ours_min: VERSION_MIN,
                ours_max: VERSION_MAX,
                theirs_min: hello.version_min,
                theirs_max: hello.version_max,
            };
            self.refuse(now, link, &name, refusal);
            return Ok(());
        }
        if let Some(refusal) = self.cannot_take_args(&hello) {
            self.refuse(now, link, &name, refusal);
            return Ok(());
        }
        match self.identify(now, link, &hello) {
            Err(refusal) => self.refuse(now, link, &name, refusal),
            Ok(node) if self.is_unwanted(node, &hello) => self.turn_away(now, link, node, &hello),
            Ok(node) if self.is_replaced(node, hello.incarnation) => {
                self.hear_out(now, link, node, hello);
            }
            // First, since a late hello is that of a memory which is over.
            Ok(node) if self.is_outdated(node, &hello) => {
                self.fail(now, link, "the node has said a later hello on another link");
            }
            Ok(node) => match self.admit_incarnation(now, link, node, &hello) {
                Err(refusal) => self.refuse(now, link, &name, refusal),
                Ok(()) if self.offers_too_much(node, &hello) => {
                    self.refuse(now, link, &name, LinkRefusal::TooMany);
                }
                Ok(()) => self.compare_begins(now, link, node, hello),
            },
        }
        Ok(())
    }

    /// Returns the port to probe that a node has named, at the host from which it dialled. Without
    /// a valid port, on a link that was dialled, or if something in between would answer in its
    /// place, there is nothing to probe.
    fn address_to_probe(&self, link: LinkId, hello: &NodeHello) -> Option<String> {
        let host = self.sessions.get(link)?.host.as_ref()?;
        let port = hello.probe.as_ref()?.parse::<u16>().ok();
        let port = port.filter(|&port| port != 0)?;
        let answers = hello.refusal_means_dead || self.found_at(link, hello).is_some();
        answers.then(|| format!("{host}:{port}"))
    }

    /// Returns the address of a node's end of a link, if it sees the same there as this side: then
    /// nothing in between, a forwarder, a balancer or a translation of addresses, answers for it.
    pub(super) fn found_at(&self, link: LinkId, hello: &NodeHello) -> Option<String> {
        let peer = &self.sessions.get(link)?.peer;
        (*peer == hello.address).then(|| peer.clone())
    }

    /// Returns whether another process that says this hello proves that a process of the node is
    /// dead: nobody else can listen at the address at which that was found.
    fn stands_in_place_of(
        &self,
        node: NodeIndex,
        process: &NodeProcess,
        link: LinkId,
        hello: &NodeHello,
    ) -> bool {
        let found_at = self.found_at(link, hello);
        let entry = self.roster.get(node);
        self.was_dialled(link) && entry.proves_dead(process, found_at.as_deref())
    }

    /// Refuses a node that cannot take the largest args: they would close its link, be assigned
    /// again, and so for ever.
    fn cannot_take_args(&self, hello: &NodeHello) -> Option<LinkRefusal> {
        let needs = (self.config.max_task_args + FRAME_OVERHEAD) as u64;
        let takes = hello.max_frame.filter(|takes| *takes < needs)?;
        Some(LinkRefusal::SmallFrames { takes, needs })
    }

    /// Finds which node this is.
    fn identify(
        &mut self,
        now: Timestamp,
        link: LinkId,
        hello: &NodeHello,
    ) -> Result<NodeIndex, LinkRefusal> {
        let name = hello.node.as_str();
        let session = self.sessions.get(link).and_then(|session| session.node);
        if let Some(node) = session {
            let expected = &self.roster.get(node).name;
            if **expected == *name {
                return Ok(node);
            }
            return Err(LinkRefusal::WrongName {
                expected: expected.to_string(),
                found: name.to_owned(),
            });
        }
        // A process that it had replaced is no new node either: what it runs is waited for there.
        if let Some(leaving) = self.leaving(name)
            && self.roster.get(leaving).has_lived(hello.incarnation)
        {
            return Ok(leaving);
        }
        let name_in_words = name.to_owned();
        match self.roster.names.get(name) {
            Some(&node) if self.roster.get(node).is_local() => Err(LinkRefusal::NameInUse {
                name: name_in_words,
            }),
            Some(&node) => Ok(node),
            None if self.config.accept_joins && self.has_no_room_for_a_node(now) => {
                Err(LinkRefusal::TooMany)
            }
            None if self.config.accept_joins => Ok(self.enter_node(name.into(), Reach::Joins)),
            None => Err(LinkRefusal::NotExpected {
                name: name_in_words,
            }),
        }
    }

    /// Returns whether this is another process of a node that was removed.
    fn is_unwanted(&self, node: NodeIndex, hello: &NodeHello) -> bool {
        let entry = self.roster.get(node);
        entry.is_removed() && !entry.has_lived(hello.incarnation)
    }

    /// Closes the link of another process of a node that was removed. Nobody else can listen at the
    /// address at which the removed one was dialled, which is dead then.
    fn turn_away(&mut self, now: Timestamp, link: LinkId, node: NodeIndex, hello: &NodeHello) {
        let process = self.roster.get(node).latest_process();
        if process.is_some_and(|process| self.stands_in_place_of(node, process, link, hello)) {
            self.spare(link, node);
            self.lose(
                now,
                node,
                Loss::Dead,
                "a new process answers at its address",
            );
        }
        self.fail(now, link, "the node was removed");
    }

    /// Returns whether this incarnation of the node may be the one that counts.
    fn admit_incarnation(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        hello: &NodeHello,
    ) -> Result<(), LinkRefusal> {
        let silence = self.config.heartbeat.saturating_mul(2);
        let entry = self.roster.get(node);
        let returns = entry.incarnation() == Some(hello.incarnation);
        match entry.latest_process() {
            // What it does not name may have run, and may go on. One that was told to leave has
            // nothing of any task, and says goodbye when it has nothing that goes on.
            Some(process) if returns && process.memory != hello.memory && !entry.is_removed() => {
                self.spare(link, node);
                self.retire(
                    now,
                    node,
                    "it has forgotten this scheduler and what that had given it",
                );
            }
            Some(_) if returns => {}
            // Nobody else can listen at the address at which the old incarnation was dialled.
            Some(process) if self.stands_in_place_of(node, process, link, hello) => {
                self.spare(link, node);
                self.lose(
                    now,
                    node,
                    Loss::Dead,
                    "a new process answers at its address",
                )
            }
            // Nor can two listen at one port. While the old incarnation's link is up, the new one's
            // word is doubted.
            Some(process)
                if !entry.is_up() && process.probe.is_some() && process.probe == hello.probe =>
            {
                self.spare(link, node);
                self.lose(
                    now,
                    node,
                    Loss::Dead,
                    "a new process has the port that it had named",
                )
            }
            // Nothing proves the old incarnation dead. But it is silent, and whoever speaks can be
            // given work.
            Some(process) if process.is_lost() || entry.last_heard + silence <= now => {
                self.spare(link, node);
                self.retire(now, node, "another process has taken its place");
            }
            // The one that counts was heard a moment ago: two live processes claim one name.
            Some(_) => {
                self.timers.wake_at(node, now);
                self.end_displaced(now, link, node, hello);
                return Err(LinkRefusal::NameInUse {
                    name: hello.node.clone(),
                });
            }
            None => {}
        }
        self.end_displaced(now, link, node, hello);
        Ok(())
    }

    /// Ends the replaced processes of a node in whose place another process is that says this
    /// hello, whether or not it may be the node.
    fn end_displaced(&mut self, now: Timestamp, link: LinkId, node: NodeIndex, hello: &NodeHello) {
        let past = self.roster.get(node).past.iter();
        let ended: Vec<_> = past
            .filter(|process| {
                process.incarnation != hello.incarnation
                    && (self.stands_in_place_of(node, process, link, hello)
                        || (process.probe.is_some() && process.probe == hello.probe))
            })
            .map(|process| process.incarnation)
            .collect();
        self.end_replaced(now, node, |process| ended.contains(&process.incarnation));
    }

    /// Returns whether what all nodes offer would become too much to remember.
    fn offers_too_much(&self, node: NodeIndex, hello: &NodeHello) -> bool {
        let kinds = hello.kinds.iter().map(|offer| &offer.kind);
        let own = names_bytes(kinds.chain(&hello.labels));
        self.catalogue
            .offered_bytes_without(node)
            .saturating_add(own)
            > MAX_OFFERED_BYTES
    }

    /// Keeps the link on which a new process speaks when the links of the old process are closed.
    pub(super) fn spare(&mut self, link: LinkId, node: NodeIndex) {
        self.roster
            .get_mut(node)
            .handshake
            .take_if(|it| *it == link);
    }

    /// Returns whether a later hello of this incarnation was heard already: two links may bring
    /// them in either order, and the node has left the link of the earlier one.
    fn is_outdated(&self, node: NodeIndex, hello: &NodeHello) -> bool {
        let process = self.roster.get(node).latest_process();
        process.is_some_and(|process| {
            process.incarnation == hello.incarnation && hello.number <= process.hello
        })
    }

    /// Makes a record for a node that was not known so far.
    pub(super) fn enter_node(&mut self, name: std::sync::Arc<str>, reach: Reach) -> NodeIndex {
        let mut entry = Node::new(name, reach);
        entry.load = Load::new(self.settings.max_workers);
        let node = self.roster.enter(entry);
        self.not_recorded(node);
        self.node_changed(node);
        self.catalogue.enter_node(node);
        node
    }
}

/// Returns what a hello may contain.
fn check_hello(hello: &NodeHello) -> Result<(), String> {
    if !is_name(&hello.node) {
        return Err(
            "its name is empty, too long or has control or invisible characters".to_owned(),
        );
    }
    if hello.kinds.len() > MAX_KINDS
        || !hello
            .kinds
            .iter()
            .all(|offer| TaskKind::from(offer.kind.as_str()).is_usable())
    {
        return Err("it offers too many kinds, or one without a usable name".to_owned());
    }
    let distinct: std::collections::BTreeSet<_> =
        hello.kinds.iter().map(|offer| &offer.kind).collect();
    if distinct.len() != hello.kinds.len() {
        return Err("it offers a kind twice".to_owned());
    }
    if hello.labels.len() > MAX_LABELS || !hello.labels.iter().all(|label| is_name(label)) {
        return Err("it bears too many labels, or one without a usable name".to_owned());
    }
    Ok(())
}
