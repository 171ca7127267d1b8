//! Dials and probes, and the links that come of them.
//!
//! Owns: who is reached, when, and when each side learns of it. Does not know: what travels on a
//! link.

use callboard::__internals::engine::node::NodeEvent;
use callboard::__internals::engine::{Event, LinkId, NodeId, Origin};

use crate::cluster::{Cluster, Ev};
use crate::network::{DOWN, Dial, Dialler, End, Link, UP, Whose};
use crate::nodes::NodeIn;
use crate::plan::MS;

impl Cluster {
    /// Tells a dialling end that nothing came of it; a listening end is told nothing.
    pub fn dial_failed(
        &mut self,
        dialler: Dialler,
        proc: usize,
        end: usize,
        refused: bool,
        reason: &str,
    ) {
        match dialler {
            Dialler::Scheduler(node) if end == DOWN => self.tell_scheduler(Event::DialFailed {
                node,
                refused,
                reason: reason.to_owned(),
            }),
            Dialler::Neighbour(node) if end == DOWN => self.tell_neighbour(Event::DialFailed {
                node,
                refused,
                reason: reason.to_owned(),
            }),
            Dialler::Node(address) if end == UP => self.tell_node(
                proc,
                NodeIn::Event(NodeEvent::DialFailed {
                    address,
                    reason: reason.to_owned(),
                }),
            ),
            _ => {}
        }
    }

    pub fn dial(&mut self, dial: Dial) {
        let delay = self.delay(false);
        self.after(delay, Ev::Dialling(Box::new(dial)));
    }

    /// Looks whether a dial arrives, and where.
    pub fn dialling(&mut self, dial: Dial) {
        if !self.is_dialler_alive(&dial) {
            return;
        }
        let by_node = matches!(dial.dialler, Dialler::Node(_));
        let whose = dial.dialler.whose();
        let (is_alive, is_frozen) = match whose {
            Whose::Own => (self.is_scheduler_alive(), self.is_scheduler_frozen()),
            Whose::Neighbours => (self.neighbour.is_alive(), self.neighbour.is_frozen()),
        };
        let listener = if by_node {
            is_alive.then_some(dial.proc)
        } else {
            self.listeners.get(&dial.address).copied()
        };
        // Who has never listened has a machine that refuses; who did has one that may be cut off.
        let host = match listener {
            Some(proc) => self.procs[proc].host,
            None if by_node => self.procs[dial.proc].host,
            None => self.host_of(&dial.address),
        };
        let frozen = if by_node {
            is_frozen
        } else {
            listener.is_some_and(|proc| self.is_frozen(proc))
        };
        let cut = [DOWN, UP].map(|way| self.neighbour.is_cut(way, self.now));
        let cut = whose == Whose::Neighbours && cut.contains(&true);
        let unanswered =
            cut || self.hosts[host].is_cut(self.now) || (frozen && dial.probe.is_none());
        if unanswered && dial.probe.is_none() && self.is_forwarded(&dial.address) {
            // What stands in front finds nobody, and says so in its own name.
            let delay = self.delay(false);
            let (dial, refused) = (Box::new(dial), true);
            self.after(delay, Ev::DialEnds { dial, refused });
            return;
        }
        if unanswered {
            self.dial_again(dial);
            return;
        }
        match listener {
            None => {
                let delay = self.delay(false);
                self.after(
                    delay,
                    Ev::DialEnds {
                        dial: Box::new(dial),
                        refused: true,
                    },
                );
            }
            Some(_) if dial.probe.is_some() => {
                let delay = self.delay(false);
                self.after(
                    delay,
                    Ev::DialEnds {
                        dial: Box::new(dial),
                        refused: false,
                    },
                );
            }
            Some(proc) => self.connect(dial, proc),
        }
    }

    pub fn dial_again(&mut self, dial: Dial) {
        if self.now >= dial.until {
            self.dial_ends(dial, false);
        } else {
            let at = (self.now + 100 * MS).min(dial.until);
            self.at(at, Ev::Dialling(Box::new(dial)));
        }
    }

    pub fn dial_ends(&mut self, dial: Dial, refused: bool) {
        if !self.is_dialler_alive(&dial) {
            return;
        }
        let reason = if refused {
            "nobody listens there"
        } else {
            "no answer"
        };
        match (dial.probe, &dial.dialler) {
            (Some(incarnation), Dialler::Scheduler(node) | Dialler::Neighbour(node)) => {
                let (node, whose) = (*node, dial.dialler.whose());
                let probed = Event::Probed {
                    node,
                    incarnation,
                    refused,
                };
                self.tell(whose, probed);
            }
            _ => {
                let end = usize::from(matches!(dial.dialler, Dialler::Node(_)));
                self.dial_failed(dial.dialler, dial.proc, end, refused, reason);
            }
        }
    }

    pub fn is_dialler_alive(&self, dial: &Dial) -> bool {
        match dial.dialler {
            Dialler::Node(_) => self.procs[dial.proc].alive,
            Dialler::Neighbour(_) => {
                self.neighbour.is_alive() && dial.term == self.neighbour.term()
            }
            _ => self.is_scheduler_alive() && dial.term == self.term(),
        }
    }

    /// Opens a link, of which the two sides learn at different moments.
    pub fn connect(&mut self, dial: Dial, proc: usize) {
        let link = self.new_link(proc, dial.dialler, false);
        for end in [DOWN, UP] {
            let mut delay = self.delay(false) * 2;
            if self.rng.u32(..20) == 0 && !self.quiet {
                delay += self.rng.u64(..300 * MS);
            }
            self.after(delay, Ev::Opens { link, end });
        }
    }

    /// Opens a link inside the scheduler's process.
    pub fn connect_local(&mut self, proc: usize, node: NodeId) {
        let link = self.new_link(proc, Dialler::Local(node), true);
        self.after(0, Ev::Opens { link, end: DOWN });
        self.after(1000, Ev::Opens { link, end: UP });
    }

    pub fn new_link(&mut self, proc: usize, dialler: Dialler, local: bool) -> usize {
        let link = self.links.len();
        let whose = dialler.whose();
        self.links.push(Link {
            id: LinkId(link as u64 + 1),
            proc,
            whose,
            term: self.term_of(whose),
            local,
            ends: [End::NotYet; 2],
            pipes: Default::default(),
            broken: false,
            dialler,
        });
        link
    }

    fn is_forwarded(&self, address: &str) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| node.forwarded && node.name == address)
    }

    /// Returns the address of a node's end of a link, as the scheduler sees it.
    fn end_of_node(&self, link: usize) -> String {
        let it = &self.links[link];
        let proc = &self.procs[it.proc];
        match it.dialler {
            Dialler::Scheduler(_) | Dialler::Neighbour(_) => proc.name.to_string(),
            Dialler::Local(_) => String::new(),
            Dialler::Node(_) => format!("{}:{}", proc.came_from, it.id.0),
        }
    }

    pub fn opens(&mut self, link: usize, end: usize) {
        let it = &mut self.links[link];
        if it.ends[end] != End::NotYet {
            return;
        }
        if it.broken {
            self.closed(link, end, "connection reset");
            return;
        }
        it.ends[end] = End::Open;
        let (id, proc, dialler) = (it.id, it.proc, it.dialler.clone());
        let (whose, term) = (it.whose, it.term);
        if end == DOWN {
            let is_alive = match whose {
                Whose::Own => self.is_scheduler_alive(),
                Whose::Neighbours => self.neighbour.is_alive(),
            };
            if term != self.term_of(whose) || !is_alive {
                return;
            }
            let origin = match dialler {
                Dialler::Scheduler(node) | Dialler::Neighbour(node) | Dialler::Local(node) => {
                    Origin::Dialled(node)
                }
                Dialler::Node(_) => Origin::Came(self.procs[proc].came_from.clone()),
            };
            let peer = self.end_of_node(link);
            let opened = Event::LinkOpened {
                link: id,
                origin,
                peer,
            };
            self.tell(whose, opened);
        } else {
            if !self.procs[proc].alive {
                return;
            }
            let mut address = self.end_of_node(link);
            if self.is_forwarded(&address) {
                address.push_str(" behind its forwarder");
            }
            let dialled = match dialler {
                Dialler::Node(address) => Some(address),
                _ => None,
            };
            self.tell_node(
                proc,
                NodeIn::Event(NodeEvent::LinkOpened {
                    link: id,
                    dialled,
                    address,
                }),
            );
        }
        self.pump(link, 1 - end);
    }
}
