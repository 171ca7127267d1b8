//! The machines of a process: one for each scheduler that it serves.
//!
//! Owns: whose machine a link and a worker belong to, how they share the bounds of the process, and
//! when nothing is left of all of them. Does not know: who may come (see `admission`), or what
//! passes between a scheduler and its machine.
//!
//! A link that came belongs to nobody before its hello names the scheduler; until then it is in the
//! lobby, a machine that serves nobody. One that was dialled belongs to the machine whose address
//! was dialled, and an address to the scheduler that last answered there.

mod admission;
mod shares;

use std::collections::{BTreeMap, BTreeSet};

use super::contract::Serves;
use super::state::Bond;
use super::{Gone, NodeAction, NodeEvent, NodeMachine, NodeSpec};
use crate::config::NodeConfig;
use crate::engine::message::ToNode;
use crate::engine::{LinkId, Memory, SchedulerId, Timestamp, WorkerId, move_behind};

/// Workers of all seats have numbers of their own.
const _: () = assert!(NodeConfig::MAX_WORKERS < 1 << 20 && MAX_SCHEDULERS < 1 << 11);

/// The most schedulers that a process serves at once, those among them that it dials and that have
/// not said who they are.
pub const MAX_SCHEDULERS: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Machines {
    spec: NodeSpec,
    serves: Serves,
    /// Where links are that have not said hello.
    lobby: NodeMachine,
    /// When the lobby's effects are due; `None` while nothing can follow there. No other turn asks
    /// it.
    lobby_due: Option<Timestamp>,
    /// The machines by seat; a seat is free once its scheduler is forgotten.
    seats: Vec<Option<Seated>>,
    links: BTreeMap<LinkId, Way>,
    /// Workers, within a seat, whose thread is blocked: at every seat, later ones included.
    blocked: BTreeSet<WorkerId>,
    course: ProcessCourse,
    /// The greatest numbers that any machine has given out whose scheduler was forgotten: none may
    /// come again under the name of this process.
    hellos: u64,
    reports: u64,
    /// The memory with which the next machine begins.
    memory: Memory,
    /// Counts changes of who sits where.
    changes: u64,
    actions: Vec<NodeAction>,
}

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessCourse {
    Serving,
    /// The process was told to end.
    Ending,
    Gone,
}

/// A scheduler's place.
#[derive(Debug)]
struct Seated {
    /// The name of the scheduler; `None` before the first hello from an address that is dialled.
    scheduler: Option<String>,
    /// The id and the term of its last start that said hello.
    start: Option<(SchedulerId, u64)>,
    machine: NodeMachine,
    /// The workers that it has just given up.
    claim: shares::FreedWorkers,
    /// Why its machine is gone.
    gone: Option<Gone>,
}

/// Where a link belongs.
#[derive(Debug)]
struct Way {
    holder: Holder,
    dialled: Option<String>,
    address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Lobby,
    Seat(usize),
}

impl Machines {
    /// Makes machines for the addresses to join, which the first effects dial. More than
    /// [`MAX_SCHEDULERS`] are not dialled.
    pub fn new(spec: NodeSpec, serves: Serves) -> Self {
        let joins = spec.joins.clone();
        let spec = NodeSpec {
            joins: Vec::new(),
            ..spec
        };
        let mut machines = Self {
            lobby: NodeMachine::new(spec.clone()),
            lobby_due: Some(Timestamp::default()),
            memory: spec.memory,
            spec,
            serves,
            seats: Vec::new(),
            links: BTreeMap::new(),
            blocked: BTreeSet::new(),
            course: ProcessCourse::Serving,
            hellos: 0,
            reports: 0,
            changes: 0,
            actions: Vec::new(),
        };
        for address in joins {
            if machines.seat_of(&address).is_none() {
                // Beyond the bound it is left out; the builder checks it before.
                let _ = machines.take_seat(None, Some(address));
            }
        }
        machines
    }

    /// Takes note of a fact.
    #[inline]
    pub fn handle(&mut self, now: Timestamp, mut event: NodeEvent) {
        match &mut event {
            NodeEvent::LinkOpened {
                link,
                dialled,
                address,
            } => {
                // Who dialled this process is known only by the hello.
                let seat = dialled.as_deref().and_then(|address| self.seat_of(address));
                let holder = seat.map_or(Holder::Lobby, Holder::Seat);
                let way = Way {
                    holder,
                    dialled: dialled.clone(),
                    address: address.clone(),
                };
                self.links.insert(*link, way);
                self.tell(now, holder, event);
            }
            NodeEvent::Message {
                link,
                message: ToNode::Hello(hello),
            } => self.hello(now, *link, (**hello).clone()),
            NodeEvent::Message { link, .. } | NodeEvent::Heard { link } => {
                if let Some(holder) = self.holder_of(*link) {
                    self.tell(now, holder, event);
                }
            }
            NodeEvent::LinkClosed { link, .. } => {
                if let Some(way) = self.links.remove(link) {
                    self.tell(now, way.holder, event);
                    self.end_without_link(now);
                }
            }
            NodeEvent::DialFailed { address, .. } => {
                // Its scheduler may have been found at another address meanwhile.
                if let Some(seat) = self.seat_of(address) {
                    self.tell(now, Holder::Seat(seat), event);
                }
            }
            NodeEvent::Ended { worker, .. }
            | NodeEvent::Freed { worker, .. }
            | NodeEvent::Progress { worker, .. }
            | NodeEvent::Note { worker, .. }
            | NodeEvent::Unstarted { worker, .. }
            | NodeEvent::NoThread { worker, .. } => {
                // A machine knows its workers by their numbers within its seat.
                let seat = worker.seat();
                *worker = worker.within_seat();
                self.tell(now, Holder::Seat(seat), event);
            }
            NodeEvent::Stalled { workers } => self.stalled(now, workers),
            NodeEvent::Resumed { workers } => {
                // A thread runs workers of every seat.
                let workers = within(workers);
                self.blocked.retain(|worker| !workers.contains(worker));
                self.tell_all(now, || NodeEvent::Resumed {
                    workers: workers.clone(),
                });
            }
            NodeEvent::Workers(workers) => {
                let workers = *workers;
                self.tell_all(now, || NodeEvent::Workers(workers));
            }
            NodeEvent::Drain => {
                // Before they are told: none of them may take a link in between.
                self.end();
                self.tell_all(now, || NodeEvent::Drain);
            }
            NodeEvent::Stop => {
                self.end();
                self.tell_all(now, || NodeEvent::Stop);
            }
        }
    }

    /// Lets every machine decide, and appends the actions to perform, in order.
    pub fn take_effects(&mut self, now: Timestamp, actions: &mut Vec<NodeAction>) {
        let links = self.links.len();
        self.take_effects_of_all(now, actions);
        // It may have closed its last link itself.
        if self.links.len() < links && self.end_without_link(now) {
            self.take_effects_of_all(now, actions);
        }
        if let Some(why) = self.finish() {
            self.course = ProcessCourse::Gone;
            actions.push(NodeAction::Gone(why));
        }
    }

    fn take_effects_of_all(&mut self, now: Timestamp, actions: &mut Vec<NodeAction>) {
        move_behind(&mut self.actions, actions);
        self.share_out(now);
        for seat in 0..self.seats.len() {
            let Some(seated) = &mut self.seats[seat] else {
                continue;
            };
            let first = actions.len();
            seated.machine.take_effects(now, actions);
            if seated.gone.is_none() && seated.machine.is_gone() {
                let is_gone = |action: &NodeAction| matches!(action, NodeAction::Gone(_));
                let at = actions.iter().skip(first).position(is_gone);
                if let Some(NodeAction::Gone(why)) = at.map(|at| actions.remove(first + at)) {
                    seated.gone = Some(why);
                }
            }
            for action in &mut actions[first..] {
                self.finish_action(seat, action);
            }
        }
        if self.lobby_due.is_some_and(|due| due <= now) {
            self.take_effects_of_lobby(now, actions);
        }
    }

    fn take_effects_of_lobby(&mut self, now: Timestamp, actions: &mut Vec<NodeAction>) {
        let first = actions.len();
        self.lobby.take_effects(now, actions);
        self.lobby_due = self.lobby.next_wakeup();
        for mut action in actions.split_off(first) {
            self.finish_action(0, &mut action);
            // No scheduler is concerned when the lobby ends.
            if !matches!(action, NodeAction::Gone(_)) {
                actions.push(action);
            }
        }
    }

    /// Returns when the effects are to be taken again at the latest.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.is_gone() {
            return None;
        }
        let seated = self.seated().filter_map(|it| it.machine.next_wakeup());
        let others = [self.lobby_due, self.next_claim_end()];
        seated.chain(others.into_iter().flatten()).min()
    }

    /// Returns how many tasks occupy a worker now, for all schedulers together.
    pub fn running(&self) -> usize {
        self.seated().map(|it| it.machine.running()).sum()
    }

    /// Returns the workers that are occupied now.
    pub fn occupied(&self) -> impl Iterator<Item = WorkerId> {
        let seats = self.seats.iter().enumerate();
        let seats = seats.filter_map(|(seat, seated)| Some((seat, seated.as_ref()?)));
        seats.flat_map(|(seat, seated)| {
            let occupied = seated.machine.occupied();
            occupied.map(move |worker| worker.at_seat(seat))
        })
    }

    /// Returns whether it has told that it is [`NodeAction::Gone`].
    pub fn is_gone(&self) -> bool {
        self.course == ProcessCourse::Gone
    }

    /// Returns the names of the schedulers that are served.
    pub fn served(&self) -> impl Iterator<Item = &str> {
        let served = self.seated().filter(|it| {
            let session = it.machine.session.as_ref();
            session.is_some_and(|session| session.bond == Bond::Served)
        });
        served.filter_map(|it| it.scheduler.as_deref())
    }

    /// Returns the name of the scheduler at each seat, for what runs there.
    pub fn names(&self) -> impl Iterator<Item = Option<&str>> {
        let seats = self.seats.iter();
        seats.map(|seated| seated.as_ref().and_then(|it| it.scheduler.as_deref()))
    }

    /// Counts the changes of [`Machines::names`].
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Checks every invariant of all machines.
    ///
    /// # Errors
    ///
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        for seated in self.seated() {
            seated.machine.check()?;
        }
        self.lobby.check()?;
        if let Some(due) = self.lobby.next_wakeup()
            && self.lobby_due.is_none_or(|known| known > due)
        {
            return Err("the lobby's effects are due before they are taken".to_owned());
        }
        for (link, way) in &self.links {
            if let Holder::Seat(seat) = way.holder
                && self.seats.get(seat).is_none_or(Option::is_none)
            {
                return Err(format!("{link} belongs to a free seat"));
            }
        }
        Ok(())
    }

    fn seated(&self) -> impl Iterator<Item = &Seated> {
        self.seats.iter().flatten()
    }

    #[inline]
    fn holder_of(&self, link: LinkId) -> Option<Holder> {
        self.links.get(&link).map(|way| way.holder)
    }

    /// Returns the seat of the scheduler that is dialled at an address.
    fn seat_of(&self, address: &str) -> Option<usize> {
        let has = |it: &Seated| it.machine.dialler.has(address);
        let mut seats = self.seats.iter();
        seats.position(|seated| seated.as_ref().is_some_and(has))
    }

    #[inline]
    fn machine(&mut self, holder: Holder) -> Option<&mut NodeMachine> {
        match holder {
            Holder::Lobby => {
                self.lobby_due = Some(Timestamp::default());
                Some(&mut self.lobby)
            }
            Holder::Seat(seat) => {
                let seated = self.seats.get_mut(seat)?.as_mut()?;
                Some(&mut seated.machine)
            }
        }
    }

    #[inline]
    fn tell(&mut self, now: Timestamp, holder: Holder, event: NodeEvent) {
        // What is free is shared anew before each: it may start something.
        self.share_out(now);
        if let Some(machine) = self.machine(holder) {
            machine.handle(now, event);
        }
    }

    fn tell_all(&mut self, now: Timestamp, event: impl Fn() -> NodeEvent) {
        for seated in self.seats.iter_mut().flatten() {
            seated.machine.handle(now, event());
        }
        self.lobby.handle(now, event());
        self.lobby_due = Some(now);
    }

    /// Notes that a thread is blocked, by the run of the first of these workers if it has one. The
    /// thread has workers of every seat, under the same numbers; only the machine whose run it is
    /// may blame it.
    fn stalled(&mut self, now: Timestamp, workers: &[WorkerId]) {
        let active = workers.first().map(|worker| worker.seat());
        let workers = within(workers);
        self.blocked.extend(&workers);
        for seat in 0..self.seats.len() {
            if Some(seat) == active {
                let workers = workers.clone();
                self.tell(now, Holder::Seat(seat), NodeEvent::Stalled { workers });
            } else if let Some(machine) = self.machine(Holder::Seat(seat)) {
                machine.stalled_by_others(&workers);
            }
        }
    }

    /// Ends a node of the scheduler's own process whose link is closed, since nobody can open
    /// another. Returns whether it does so now.
    fn end_without_link(&mut self, now: Timestamp) -> bool {
        let ends =
            self.spec.local && self.links.is_empty() && self.course == ProcessCourse::Serving;
        if ends {
            self.end();
            self.tell_all(now, || NodeEvent::Stop);
        }
        ends
    }

    fn end(&mut self) {
        if self.course == ProcessCourse::Serving {
            self.course = ProcessCourse::Ending;
        }
    }

    /// Returns why nothing is left to do, if that is so.
    fn finish(&self) -> Option<Gone> {
        if self.is_gone() || self.seated().any(|it| it.gone.is_none()) {
            return None;
        }
        let mut seated = self.seated().filter_map(|it| it.gone.clone());
        let replaced = self.seated().any(|it| it.gone == Some(Gone::Replaced));
        match self.course {
            _ if replaced => Some(Gone::Replaced),
            ProcessCourse::Ending => Some(Gone::Drained),
            // Who listens and has served nobody so far waits.
            _ => seated.next(),
        }
    }

    /// Names workers by their seat, and forgets links that are closed.
    #[inline]
    fn finish_action(&mut self, seat: usize, action: &mut NodeAction) {
        match action {
            NodeAction::Start { worker, .. }
            | NodeAction::TakeBack { worker, .. }
            | NodeAction::Stop { worker, .. } => *worker = worker.at_seat(seat),
            NodeAction::Close { link, .. } => {
                self.links.remove(link);
            }
            NodeAction::Send { .. }
            | NodeAction::Dial { .. }
            | NodeAction::Gone(_)
            | NodeAction::Note(_) => {}
        }
    }
}

/// Returns the numbers of workers within their seats, each once, in the order in which they come
/// first.
fn within(workers: &[WorkerId]) -> Vec<WorkerId> {
    let mut seen = BTreeSet::new();
    let within = workers.iter().map(|worker| worker.within_seat());
    within.filter(|worker| seen.insert(*worker)).collect()
}
