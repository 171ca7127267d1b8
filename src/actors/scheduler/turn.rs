//! The turns of a scheduler's actor: all that is heard, decided and done at once.
//!
//! Owns: the order within a turn, when a turn is due, and what is sent in it to nodes and clients.
//! Does not know: what the mailbox brings.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::deliveries::Gathered;
use super::ending::ShutdownStep;
use super::{ClientGone, Core};
use crate::actors::{Shutdown, sleep_from, yield_once};
use crate::contain::contained;
use crate::engine::{Action, ClientId, Event, Timestamp};
use crate::say::say;

/// How much may be heard in a turn that has what it says written at once
/// ([`Links::flush`](crate::links::Links::flush)). With more to do, in this turn or already for the
/// next, the network's thread had better write while this one works on.
const SMALL_TURN: usize = 4;

/// Statuses that gather for a client while more is to be heard. A client on another thread handles
/// a status faster than the next one is sent, and so goes to sleep and is woken for nearly each of
/// a small group; a wake-up costs as much as ten statuses.
const MAX_DELIVERY: usize = 1024;

/// How often a turn looks whether the clients are still there: an actor's end is not announced.
const CLIENT_ROUND: Duration = Duration::from_millis(500);

impl Core {
    /// Hears all that has happened, does all that follows, and says when it is due again. `rested`
    /// says that there was nothing to hear when the last turn had ended.
    pub(super) fn turn(&mut self, rested: bool) -> Option<Instant> {
        let began = Instant::now();
        let noted = std::mem::take(&mut self.noted);
        self.inbox.take(&mut self.incoming);
        let small = noted + self.incoming.len() <= SMALL_TURN;
        let now = self.look_at_clocks();
        let mut incoming = std::mem::take(&mut self.incoming);
        for incoming in incoming.drain(..) {
            let event = self.links.hear(incoming);
            self.hear(now, event);
        }
        self.incoming = incoming;
        self.look_after_clients(now, began);
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.take_effects(now, &mut actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
        for status in std::mem::take(&mut self.unclaimed) {
            self.machine.handle(now, Event::Unclaimed(status));
            self.bell.ring();
        }
        self.store(now);
        self.links.flush(rested && small && self.inbox.is_empty());
        self.deliver(now);
        self.reply();
        self.go_on_ending(now);
        let ended = Instant::now();
        let noted = (noted > 0).then_some(self.moment);
        self.turns.turned(now, noted, ended - began);
        self.next_turn(now, ended)
    }

    /// Tells callers what became of what they handed in, as far as it is stored.
    pub(super) fn reply(&mut self) {
        self.replies.give(self.machine.stored());
    }

    fn next_turn(&self, now: Timestamp, ended: Instant) -> Option<Instant> {
        let due = self.machine.next_wakeup();
        let due = due.map(|due| sleep_from(ended, due, now));
        let clients = (!self.clients.is_empty()).then_some(self.client_round);
        let ending = self
            .ending
            .as_ref()
            .and_then(ShutdownStep::until)
            .map(|until| ended + until.since(now));
        let store = self.recorder.as_ref().and_then(|it| it.due());
        [due, clients, ending, store].into_iter().flatten().min()
    }

    fn hear(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::ClientGone { client } => self.client_gone(now, client),
            event => self.machine.handle(now, event),
        }
    }

    fn look_after_clients(&mut self, now: Timestamp, moment: Instant) {
        let round = !self.clients.is_empty() && moment >= self.client_round;
        for event in self.clients.answers(round) {
            self.hear(now, event);
        }
        if !round {
            return;
        }
        self.client_round = moment + CLIENT_ROUND;
        for client in self.clients.gone() {
            self.client_gone(now, client);
        }
    }

    fn client_gone(&mut self, now: Timestamp, client: ClientId) {
        let current = self.machine.client() == Some(client);
        for handled in self.clients.forget(client) {
            self.machine.handle(now, handled);
        }
        self.machine.handle(now, Event::ClientGone { client });
        if current {
            let stats = self.machine.stats(now);
            say!(warn: scheduler = %stats.scheduler,
                pending = stats.pending,
                running = stats.running,
                waiting_retries = stats.waiting_retries,
                unconfirmed = stats.unconfirmed_statuses,
                "the client is gone"
            );
            if self.clients.on_gone() == ClientGone::Stop && self.ending.is_none() {
                self.begin_ending(now, Shutdown::Now, None);
            }
        }
    }

    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Send { link, message } => self.links.send(link, message),
            Action::Close { link, reason } => self.links.close(link, reason),
            Action::Dial {
                node,
                address,
                found_at,
            } => self.connector.dial(node, address, found_at, None),
            Action::Probe {
                node,
                incarnation,
                address,
            } => {
                let probed = move |refused| Event::Probed {
                    node,
                    incarnation,
                    refused,
                };
                self.connector.probe(address, Box::new(probed));
            }
            Action::Deliver {
                client,
                delivery,
                statuses,
            } => {
                let mut gathered = self.deliveries.iter_mut();
                if let Some((_, gathered)) = gathered.find(|(other, _)| *other == client) {
                    gathered.add(delivery, statuses);
                } else {
                    let mut gathered = Gathered::default();
                    gathered.add(delivery, statuses);
                    self.deliveries.push((client, gathered));
                }
            }
            Action::LetGo { client } => self.clients.let_go(client),
            Action::Answer { status, alone } => {
                if !self.callers.answer(&status) && alone {
                    self.unclaimed.push(status);
                }
            }
            Action::CancelAnswer { ticket, answer } => self.callers.cancelled(ticket, answer),
            Action::Notify { watcher, event } => self.clients.notify(watcher, event),
            Action::TakenBack { refused } => {
                let now = self.clock.now();
                self.refuse_after_all(now, refused);
            }
            Action::Note(note) => {
                let now = self.clock.now();
                self.log.note(self.machine.name(), &note, now);
                self.nodes.note(&note);
            }
        }
    }

    /// Sends what has gathered for clients, if there is nothing more to hear or it is much.
    fn deliver(&mut self, now: Timestamp) {
        let gathered: usize = self
            .deliveries
            .iter()
            .map(|(_, gathered)| gathered.len())
            .sum();
        if gathered == 0 || (gathered < MAX_DELIVERY && !self.inbox.is_empty()) {
            return;
        }
        for (client, gathered) in std::mem::take(&mut self.deliveries) {
            if !self.clients.deliver(client, gathered) {
                self.client_gone(now, client);
                self.bell.ring();
            }
        }
        // An answer is waited for from its first look on.
        for event in self.clients.answers(false) {
            self.hear(now, event);
            self.bell.ring();
        }
    }
}

/// Says that a turn is due, from any thread.
#[derive(Default)]
pub(super) struct Bell(Notify);

impl Bell {
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// Takes one turn of the machine after another, until it has ended.
pub(super) async fn pump(core: Rc<RefCell<Core>>) {
    let (inbox, bell) = {
        let core = core.borrow();
        (core.inbox.clone(), Arc::clone(&core.bell))
    };
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    let mut rested = true;
    loop {
        let turned = contained(|| core.borrow_mut().turn(rested));
        let due = turned.unwrap_or_else(|message| {
            core.borrow_mut().break_down(&message);
            None
        });
        if core.borrow().ended {
            return;
        }
        // Others on this thread have their turn, whatever is in the inbox; meanwhile more comes in.
        yield_once().await;
        rested = core.borrow().noted == 0 && inbox.is_empty();
        if let Some(due) = due {
            sleep.as_mut().reset(due);
        }
        tokio::select! {
            biased;
            () = inbox.ready() => {}
            () = bell.0.notified() => {}
            () = &mut sleep, if due.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests;
