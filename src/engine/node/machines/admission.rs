//! Which schedulers a process serves, and which link leads to whom.
//!
//! Owns: the seats, from a scheduler's first hello until it is forgotten, and moving links and
//! addresses to the scheduler that says hello on them. Does not know: what follows from a hello.

use super::shares::FreedWorkers;
use super::{Holder, MAX_SCHEDULERS, Machines, ProcessCourse, Seated};
use crate::engine::message::{SchedulerHello, ToNode, is_name};
use crate::engine::node::{Gone, NodeAction, NodeEvent, NodeMachine, NodeSpec};
use crate::engine::{LinkId, SchedulerId, Timestamp};
use crate::error::LinkRefusal;

impl Machines {
    pub(super) fn hello(&mut self, now: Timestamp, link: LinkId, hello: SchedulerHello) {
        let Some(from) = self.holder_of(link) else {
            // It was closed from this side.
            return;
        };
        // A name that no scheduler can have is refused by the machine that holds the link.
        let admitted = match is_name(&hello.scheduler) {
            true => self.admit(now, from, &hello),
            false => Ok(from),
        };
        let holder = match admitted {
            Ok(holder) => holder,
            Err(refusal) => {
                if let Some(machine) = self.machine(from) {
                    machine.refuse(now, link, refusal);
                }
                return;
            }
        };
        if holder != from && !self.move_link(now, link, from, holder) {
            return;
        }
        if let Holder::Seat(seat) = holder
            && let Some(seated) = &mut self.seats[seat]
        {
            seated.start = Some((hello.scheduler_id, hello.term));
        }
        let message = ToNode::Hello(Box::new(hello));
        self.tell(now, holder, NodeEvent::Message { link, message });
    }

    /// Returns who holds the links of a scheduler that says hello on a link of this holder.
    fn admit(
        &mut self,
        now: Timestamp,
        from: Holder,
        hello: &SchedulerHello,
    ) -> Result<Holder, LinkRefusal> {
        let name = hello.scheduler.as_str();
        let is_it = |it: &Seated| it.scheduler.as_deref() == Some(name);
        let known = self
            .seats
            .iter()
            .position(|it| it.as_ref().is_some_and(is_it));
        if let Some(seat) = known {
            self.renew(now, seat, hello);
            return Ok(Holder::Seat(seat));
        }
        // Those that are served may come back to hear how their runs ended; nobody else comes now.
        if self.course != ProcessCourse::Serving {
            return Err(LinkRefusal::Stopping);
        }
        if !self.serves.only.is_empty() && !self.serves.only.iter().any(|only| only == name) {
            return Err(LinkRefusal::NotServed {
                name: name.to_owned(),
            });
        }
        // It answered at an address that was dialled before anybody was known there.
        if let Holder::Seat(seat) = from
            && let Some(seated) = &mut self.seats[seat]
            && seated.scheduler.is_none()
        {
            seated.scheduler = Some(name.to_owned());
            self.seats_changed();
            return Ok(from);
        }
        self.free_a_seat(now);
        let seat = self.take_seat(Some(name.to_owned()), None);
        let seat = seat.ok_or(LinkRefusal::TooManySchedulers {
            limit: MAX_SCHEDULERS,
        })?;
        Ok(Holder::Seat(seat))
    }

    /// Begins anew for a start of a scheduler whose start before had the node drained, or told it
    /// to leave.
    fn renew(&mut self, now: Timestamp, seat: usize, hello: &SchedulerHello) {
        let serving = self.course == ProcessCourse::Serving;
        let Some(seated) = &mut self.seats[seat] else {
            return;
        };
        if serving
            && seated.gone == Some(Gone::Dismissed)
            && seated.start.is_none_or(|start| is_another(start, hello))
        {
            let scheduler = seated.scheduler.take();
            let addresses = seated.machine.dialler.take();
            self.leave_seat(seat);
            let mut machine = self.machine_for(None);
            addresses.into_iter().for_each(|it| machine.dialler.add(it));
            self.seats[seat] = Some(Seated {
                scheduler,
                start: None,
                machine,
                claim: FreedWorkers::default(),
                gone: None,
            });
            self.seats_changed();
            self.move_links(now, Holder::Seat(seat), Holder::Seat(seat));
        }
    }

    /// Moves a link, and the address that was dialled for it, to the scheduler that said hello on
    /// it. Returns whether the link is wanted.
    fn move_link(&mut self, now: Timestamp, link: LinkId, from: Holder, to: Holder) -> bool {
        let dialled = self.links.get(&link).and_then(|way| way.dialled.clone());
        if let Some(machine) = self.machine(from) {
            machine.links.remove(&link);
        }
        if let Some(address) = &dialled {
            self.move_address(now, link, address, from, to);
        }
        let has_link = self.machine(to).is_some_and(|machine| machine.is_up());
        if dialled.is_some() && has_link {
            // Two addresses lead to one scheduler. The other one is for when this link breaks.
            self.links.remove(&link);
            self.actions.push(NodeAction::Close {
                link,
                reason: "its scheduler is reached by another address".to_owned(),
            });
            return false;
        }
        let mut address = String::new();
        if let Some(way) = self.links.get_mut(&link) {
            way.holder = to;
            address.clone_from(&way.address);
        }
        let opened = NodeEvent::LinkOpened {
            link,
            dialled,
            address,
        };
        self.tell(now, to, opened);
        true
    }

    fn move_address(
        &mut self,
        now: Timestamp,
        link: LinkId,
        address: &str,
        from: Holder,
        to: Holder,
    ) {
        if let Some(machine) = self.machine(from) {
            machine.dialler.remove(address);
        }
        if let Some(machine) = self.machine(to) {
            machine.dialler.add(address.to_owned());
        }
        let Holder::Seat(seat) = from else { return };
        let unknown = |it: &Seated| it.scheduler.is_none() && !it.machine.dialler.has_addresses();
        if self.seats[seat].as_ref().is_some_and(unknown) {
            self.leave_seat(seat);
            // This one is moved by the caller.
            let way = self.links.remove(&link);
            self.move_links(now, from, to);
            self.links.extend(way.map(|way| (link, way)));
        }
    }

    /// Gives all links of a holder, on which nobody has said hello, to another.
    fn move_links(&mut self, now: Timestamp, from: Holder, to: Holder) {
        let links = self.links.iter_mut().filter(|(_, way)| way.holder == from);
        let opened: Vec<_> = links
            .map(|(&link, way)| {
                way.holder = to;
                NodeEvent::LinkOpened {
                    link,
                    dialled: way.dialled.clone(),
                    address: way.address.clone(),
                }
            })
            .collect();
        for event in opened {
            self.tell(now, to, event);
        }
    }

    /// Gives a seat to a scheduler; `None` if there is none left.
    pub(super) fn take_seat(
        &mut self,
        scheduler: Option<String>,
        address: Option<String>,
    ) -> Option<usize> {
        let free = self.seats.iter().position(Option::is_none);
        let seat = match free {
            Some(seat) => seat,
            None if self.seats.len() >= MAX_SCHEDULERS => return None,
            None => {
                self.seats.push(None);
                self.seats.len() - 1
            }
        };
        self.seats[seat] = Some(Seated {
            scheduler,
            start: None,
            machine: self.machine_for(address),
            claim: FreedWorkers::default(),
            gone: None,
        });
        self.seats_changed();
        Some(seat)
    }

    fn machine_for(&self, address: Option<String>) -> NodeMachine {
        let mut machine = NodeMachine::new(NodeSpec {
            joins: address.into_iter().collect(),
            ..self.spec.clone()
        });
        machine.hellos = self.hellos;
        machine.memory = self.memory;
        machine.kept.number_after(self.reports);
        let blocked: Vec<_> = self.blocked.iter().copied().collect();
        machine.stalled_by_others(&blocked);
        machine
    }

    /// Forgets the scheduler that has been away for longest, if no seat is free and nothing can
    /// come of it.
    fn free_a_seat(&mut self, now: Timestamp) {
        let full = self.seats.len() >= MAX_SCHEDULERS && self.seats.iter().all(Option::is_some);
        if !full {
            return;
        }
        let seats = self.seats.iter().enumerate();
        let over = seats.filter_map(|(seat, seated)| {
            let away = seated.as_ref()?.machine.away_since(now)?;
            Some((away, seat))
        });
        if let Some((_, seat)) = over.min() {
            self.leave_seat(seat);
        }
    }

    fn leave_seat(&mut self, seat: usize) {
        if let Some(seated) = self.seats[seat].take() {
            self.hellos = self.hellos.max(seated.machine.hellos);
            self.reports = self.reports.max(seated.machine.kept.last());
            // What it knew of its scheduler is forgotten.
            self.memory = self.memory.max(seated.machine.memory).next();
            self.seats_changed();
        }
    }

    /// Divides the bounds of the process among all whose names are known.
    fn seats_changed(&mut self) {
        self.changes += 1;
        let known = self.seated().filter(|it| it.scheduler.is_some()).count();
        for seated in self.seats.iter_mut().flatten() {
            seated.machine.sharers = known.max(1);
        }
    }
}

/// Returns whether a hello comes from another start of a scheduler than this one, and from no
/// earlier one.
fn is_another((id, term): (SchedulerId, u64), hello: &SchedulerHello) -> bool {
    id != hello.scheduler_id || term < hello.term
}
