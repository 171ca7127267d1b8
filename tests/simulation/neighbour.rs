//! Another scheduler over the same nodes: it dies, sleeps, is cut off and starts again, and the one
//! that is judged must not notice.
//!
//! Owns: its process and the faults of it. Does not know: what must hold (see `oracle::fleet`), or
//! the network that both have.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use callboard::__internals::engine::scheduler::SchedulerMachine;
use callboard::__internals::engine::{
    Action, Audience, ClientId, Event, Incarnation, Reach, SchedulerId, Timestamp,
};
use callboard::__internals::testing::{Checks, DrivenScheduler};
use callboard::task::TaskId;

use crate::brief;
use crate::cluster::{Cluster, Ev};
use crate::network::{DOWN, Dial, Dialler, Item, UP, Whose};
use crate::nodes::Death;
use crate::plan::{MS, NeighbourFault, Time};
use crate::scheduler::{clock, submission};

/// Where nodes that join dial it.
pub const ADDRESS: &str = "neighbour";

/// Its terms are numbered from here on, where those of the other never come.
pub const FIRST_NEIGHBOUR: usize = 1 << 20;

const CLIENT: ClientId = ClientId(1);

/// What its process handles.
pub enum NeighbourIn {
    Event(Event),
    Submit(usize),
}

/// What happens to it at a moment.
pub enum NeighbourEv {
    Tick {
        generation: u64,
    },
    Submit(usize),
    Confirms {
        term: usize,
        delivery: u64,
        count: usize,
    },
    Starts,
    Ends {
        term: usize,
    },
    Wakes,
}

#[derive(Default)]
enum State {
    /// There is none, or it has ended.
    #[default]
    Gone,
    Up(Box<DrivenScheduler>),
    /// With what has arrived and was not read.
    Asleep(Box<DrivenScheduler>, VecDeque<NeighbourIn>),
}

#[derive(Default)]
pub struct Neighbour {
    state: State,
    starts: usize,
    generation: u64,
    tick_at: Option<Timestamp>,
    /// Indexed by direction.
    cut_until: [Time; 2],
    serials: u64,
    /// What it has accepted in this term, and what has ended.
    accepted: BTreeSet<TaskId>,
    settled: BTreeSet<TaskId>,
}

impl Neighbour {
    /// Returns the number of its term.
    pub fn term(&self) -> usize {
        FIRST_NEIGHBOUR + self.starts
    }

    pub fn is_alive(&self) -> bool {
        !matches!(self.state, State::Gone)
    }

    pub fn is_frozen(&self) -> bool {
        matches!(self.state, State::Asleep(..))
    }

    pub fn is_cut(&self, direction: usize, now: Time) -> bool {
        now < self.cut_until[direction]
    }

    /// Returns whether it has tasks that have not ended.
    pub fn is_busy(&self) -> bool {
        self.is_alive() && self.settled.len() < self.accepted.len()
    }

    fn machine(&mut self) -> Option<&mut DrivenScheduler> {
        match &mut self.state {
            State::Up(machine) => Some(machine),
            State::Gone | State::Asleep(..) => None,
        }
    }
}

impl Cluster {
    pub fn neighbour_begins(&mut self) {
        let plan = self.plan.clone();
        let Some(fleet) = &plan.fleet else {
            return;
        };
        self.at(1, Ev::Neighbour(NeighbourEv::Starts));
        for (index, task) in fleet.tasks.iter().enumerate() {
            self.at(task.at, Ev::Neighbour(NeighbourEv::Submit(index)));
        }
    }

    pub fn neighbour_happens(&mut self, event: NeighbourEv) {
        match event {
            NeighbourEv::Tick { generation } => {
                if generation == self.neighbour.generation {
                    self.neighbour.tick_at = None;
                    self.flush_neighbour();
                }
            }
            NeighbourEv::Submit(_) if self.quiet => {}
            NeighbourEv::Submit(index) => self.neighbour_takes(NeighbourIn::Submit(index)),
            NeighbourEv::Confirms { term, .. } if term != self.neighbour.term() => {}
            NeighbourEv::Confirms {
                delivery, count, ..
            } => self.tell_neighbour(Event::Confirmed {
                client: CLIENT,
                delivery,
                handled: 0..count,
            }),
            NeighbourEv::Starts => self.start_neighbour(),
            NeighbourEv::Ends { term } if term != self.neighbour.term() => {}
            NeighbourEv::Ends { .. } => self.end_neighbour(Death::Exit),
            NeighbourEv::Wakes => self.wake_neighbour(),
        }
    }

    pub fn tell_neighbour(&mut self, event: Event) {
        self.neighbour_takes(NeighbourIn::Event(event));
    }

    fn neighbour_takes(&mut self, what: NeighbourIn) {
        match &mut self.neighbour.state {
            State::Gone => {}
            State::Asleep(_, inbox) => inbox.push_back(what),
            State::Up(_) => {
                self.neighbour_handles(what);
                self.flush_neighbour();
            }
        }
    }

    fn neighbour_handles(&mut self, what: NeighbourIn) {
        let now = clock(self.now);
        match what {
            NeighbourIn::Event(event) => {
                self.trace.line(self.now, || match &event {
                    Event::Message { link, message } => {
                        format!("neighbour <- {link} {}", brief::to_scheduler(message))
                    }
                    other => format!("neighbour ! {other:?}"),
                });
                if let Some(machine) = self.neighbour.machine() {
                    machine.handle(now, event);
                }
            }
            NeighbourIn::Submit(index) => {
                let plan = self.plan.clone();
                let Some(fleet) = &plan.fleet else { return };
                self.neighbour.serials += 1;
                let serial = (self.neighbour.term() as u64) << 32 | self.neighbour.serials;
                let what = submission(&fleet.tasks[index], serial, Audience::Current);
                let Some(machine) = self.neighbour.machine() else {
                    return;
                };
                if let Ok(accepted) = machine.submit(now, what) {
                    self.neighbour.accepted.insert(accepted.id());
                    self.say(|| format!("# neighbour submits {index} -> {accepted:?}"));
                }
            }
        }
    }

    fn flush_neighbour(&mut self) {
        let now = clock(self.now);
        let Some(machine) = self.neighbour.machine() else {
            return;
        };
        machine.turn(now);
        while let Some(action) = self.neighbour.machine().and_then(|it| it.next_action()) {
            self.trace.mix(std::mem::discriminant(&action));
            self.neighbour_performs(action);
        }
        self.arm_neighbour();
    }

    fn arm_neighbour(&mut self) {
        let late = self.rng.u64(..self.plan.late);
        let Some(wakeup) = self.neighbour.machine().map(|it| it.next_wakeup()) else {
            return;
        };
        if wakeup == self.neighbour.tick_at {
            return;
        }
        self.neighbour.tick_at = wakeup;
        self.neighbour.generation += 1;
        if let Some(at) = wakeup {
            let at = at.0.saturating_sub(clock(0).0).max(self.now) + late;
            let generation = self.neighbour.generation;
            self.at(at, Ev::Neighbour(NeighbourEv::Tick { generation }));
        }
    }

    fn neighbour_performs(&mut self, action: Action) {
        match action {
            Action::Send { link, message } => {
                self.say(|| format!("neighbour -> {link} {}", brief::to_node(&message)));
                self.send(self.link_index(link), DOWN, Item::ToNode(message));
            }
            Action::Close { link, reason } => {
                self.say(|| format!("neighbour closes {link}: {reason}"));
                self.close(self.link_index(link), DOWN, reason);
            }
            Action::Dial { node, address, .. } => {
                self.neighbour_dials(Dialler::Neighbour(node), address, None);
            }
            Action::Probe {
                node,
                incarnation,
                address,
            } => self.neighbour_dials(Dialler::Neighbour(node), address, Some(incarnation)),
            Action::Deliver {
                delivery, statuses, ..
            } => {
                for status in &statuses {
                    self.neighbour_hears(status.id, &status.outcome);
                }
                let confirms = NeighbourEv::Confirms {
                    term: self.neighbour.term(),
                    delivery,
                    count: statuses.len(),
                };
                self.after(0, Ev::Neighbour(confirms));
            }
            Action::Note(note) => self.say(|| format!("neighbour notes {note:?}")),
            Action::Answer { .. }
            | Action::LetGo { .. }
            | Action::CancelAnswer { .. }
            | Action::TakenBack { .. }
            | Action::Notify { .. } => {}
        }
    }

    /// Judges that its tasks end too, each once, and well.
    fn neighbour_hears(&mut self, task: TaskId, outcome: &callboard::Outcome) {
        self.say(|| format!("neighbour is told: {task} {outcome}"));
        let known = self.neighbour.accepted.contains(&task);
        let first = self.neighbour.settled.insert(task);
        if !known || !first || !outcome.is_completed() {
            let text = format!("the other scheduler is told of its {task}: {outcome}");
            self.oracle.fail("G1", None, text);
        }
    }

    fn neighbour_dials(&mut self, dialler: Dialler, address: String, probe: Option<Incarnation>) {
        let dial = Dial {
            dialler,
            proc: 0,
            term: self.neighbour.term(),
            address,
            until: self.now + self.plan.net.dial_timeout,
            probe,
        };
        self.dial(dial);
    }

    fn start_neighbour(&mut self) {
        if self.plan.fleet.is_none() || self.neighbour.is_alive() {
            return;
        }
        let now = clock(self.now);
        self.neighbour.starts += 1;
        let term = SchedulerId(90_000 + self.neighbour.starts as u64);
        self.say(|| format!("# the neighbour starts, {term:?}"));
        let config = self.plan.config.clone();
        let mut machine = SchedulerMachine::new("neighbour".into(), term, config, now);
        machine.set_client(now, Some(CLIENT));
        for node in self.plan.nodes.iter().filter(|node| node.listens) {
            let name: Arc<str> = node.name.as_str().into();
            let added = machine.add_node(now, name, Reach::Dial(node.name.clone()));
            assert!(added.is_ok(), "the name is free");
        }
        let it = &mut self.neighbour;
        it.state = State::Up(Box::new(DrivenScheduler::new(machine, Checks::Never)));
        it.accepted.clear();
        it.settled.clear();
        it.tick_at = None;
        self.flush_neighbour();
    }

    pub fn neighbour_fault(&mut self, fault: NeighbourFault) {
        if !self.neighbour.is_alive() {
            return;
        }
        match fault {
            NeighbourFault::Dies { down } => {
                self.end_neighbour(Death::Process);
                self.after(down, Ev::Neighbour(NeighbourEv::Starts));
            }
            NeighbourFault::ShutsDown { down } => {
                let now = clock(self.now);
                let Some(machine) = self.neighbour.machine() else {
                    return;
                };
                machine.shut_down(now);
                self.flush_neighbour();
                // What it has to say is written.
                let term = self.neighbour.term();
                self.after(100 * MS, Ev::Neighbour(NeighbourEv::Ends { term }));
                self.after(200 * MS + down, Ev::Neighbour(NeighbourEv::Starts));
            }
            NeighbourFault::Freezes { span } => {
                self.neighbour.state = match std::mem::take(&mut self.neighbour.state) {
                    State::Up(machine) => State::Asleep(machine, VecDeque::new()),
                    other => other,
                };
                self.after(span, Ev::Neighbour(NeighbourEv::Wakes));
            }
            NeighbourFault::CutOff { up, down, span } => {
                let until = self.now + span;
                for (direction, cut) in [(DOWN, down), (UP, up)] {
                    if cut {
                        let cut_until = &mut self.neighbour.cut_until[direction];
                        *cut_until = until.max(*cut_until);
                    }
                }
                self.at(until, Ev::Heal { hosts: true });
            }
            NeighbourFault::Resets {
                tells_it,
                tells_nodes,
            } => {
                for link in self.links_of_neighbour() {
                    self.reset(link, [tells_it, tells_nodes]);
                }
            }
        }
    }

    fn links_of_neighbour(&self) -> Vec<usize> {
        let links = self.links.iter().enumerate();
        let links = links.filter(|(_, link)| {
            link.whose == Whose::Neighbours && link.term == self.neighbour.term() && !link.broken
        });
        links.map(|(index, _)| index).collect()
    }

    fn end_neighbour(&mut self, death: Death) {
        self.say(|| format!("# the neighbour ends: {death:?}"));
        self.neighbour.state = State::Gone;
        self.neighbour.generation += 1;
        self.oracle.neighbour_changed(self.now);
        for link in self.links_of_neighbour() {
            self.abandon(link, DOWN, death);
        }
    }

    fn wake_neighbour(&mut self) {
        let State::Asleep(machine, inbox) = std::mem::take(&mut self.neighbour.state) else {
            return;
        };
        self.say(|| "# the neighbour wakes".to_owned());
        self.neighbour.state = State::Up(machine);
        // Its driver reads the sockets before the tick.
        for what in inbox {
            self.neighbour_handles(what);
        }
        self.neighbour.tick_at = None;
        self.flush_neighbour();
    }

    /// Ends all that is wrong with it.
    pub fn neighbour_heals(&mut self) {
        self.neighbour.cut_until = [0; 2];
        self.wake_neighbour();
        self.start_neighbour();
    }

    /// Returns whether it has nothing left to do.
    pub fn has_the_neighbour_ended(&self) -> bool {
        !self.neighbour.is_busy()
    }
}
