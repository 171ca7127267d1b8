//! The virtual clients: who is told how a task ended, and when they confirm or die.
//!
//! Owns: their mailboxes. Does not know: whether what they are told is right (see `oracle`).

use std::collections::VecDeque;
use std::ops::Range;

use callboard::__internals::engine::{ClientId, Event};
use callboard::status::TaskStatus;
use callboard::task::TaskId;

use crate::cluster::{Cluster, Ev};
use crate::oracle::Holder;
use crate::plan::{MS, NEVER, Time};
use crate::scheduler::SchedulerIn;

/// A status that is with a client.
#[derive(Clone, Debug)]
pub struct Told {
    term: usize,
    task: TaskId,
    delivery: u64,
    place: usize,
}

#[derive(Debug, Default)]
pub struct Client {
    alive: bool,
    mailbox: VecDeque<Told>,
    /// Handled, in order, and not confirmed yet.
    handled: Vec<Told>,
    /// Being handled by futures.
    late: usize,
    pub slow_until: Time,
    busy: bool,
}

impl Cluster {
    pub fn add_client(&mut self) -> u64 {
        let id = self.clients.len() as u64 + 1;
        self.clients.insert(
            id,
            Client {
                alive: true,
                ..Client::default()
            },
        );
        id
    }

    pub fn new_client(&mut self) {
        let id = self.add_client();
        self.current_client = Some(id);
        self.nobody_until = 0;
        self.say(|| format!("# client {id} is set"));
        self.command(SchedulerIn::SetCurrent(Holder::Client(id)));
    }

    /// Lets no client be set for so long. The one that was may live on, and has what it was told.
    pub fn clear_client(&mut self, gap: Time) {
        self.current_client = None;
        self.nobody_until = 0;
        self.say(|| "# no client is set".to_owned());
        self.command(SchedulerIn::SetCurrent(Holder::Next));
        let term = self.term;
        self.after(gap, Ev::NewClient { term });
    }

    /// Lets nobody be told until then.
    pub fn tell_nobody(&mut self, until: Time) {
        self.current_client = None;
        self.nobody_until = until;
        self.say(|| "# nobody is to be told".to_owned());
        self.command(SchedulerIn::SetCurrent(Holder::Nobody));
        if until != NEVER {
            let term = self.term;
            self.at(until, Ev::NewClient { term });
        }
    }

    pub fn deliver_statuses(&mut self, client: ClientId, delivery: u64, statuses: Vec<TaskStatus>) {
        for status in &statuses {
            self.say(|| {
                let again = if status.is_given_again() {
                    " again"
                } else {
                    ""
                };
                format!(
                    "client {client} is told{again}: {} {}",
                    status.id, status.outcome
                )
            });
            self.told(Some(client.0), status);
        }
        let again = statuses.iter().filter(|status| status.is_given_again());
        self.oracle.given_again += again.count() as u64;
        let term = self.term;
        let Some(it) = self.clients.get_mut(&client.0) else {
            self.oracle.fail(
                "G1",
                None,
                format!("{client} never existed, and yet it is told"),
            );
            return;
        };
        if !it.alive {
            return;
        }
        let told = statuses.iter().enumerate().map(|(place, status)| Told {
            term,
            task: status.id,
            delivery,
            place,
        });
        it.mailbox.extend(told);
        let outstanding = it.mailbox.len() + it.handled.len() + it.late;
        let window = self.plan.config.status_window;
        if outstanding > window {
            self.oracle.fail(
                "G1",
                None,
                format!("{client} has {outstanding} statuses unconfirmed, more than the window of {window}"),
            );
        }
        self.client_goes_on(client.0);
    }

    fn client_goes_on(&mut self, client: u64) {
        let pace = self.plan.client_pace;
        let jitter = self.rng.u64(..=pace);
        let now = self.now;
        let Some(it) = self.clients.get_mut(&client) else {
            return;
        };
        if it.busy || it.mailbox.is_empty() {
            return;
        }
        it.busy = true;
        let pause = pace + jitter + it.slow_until.saturating_sub(now).min(3000 * MS);
        self.after(pause, Ev::ClientHandles { client });
    }

    pub fn client_handles(&mut self, client: u64) {
        let confirm_now = self.rng.u32(..3) != 0;
        let late_answers = self.plan.late_answers;
        let Some(it) = self.clients.get_mut(&client) else {
            return;
        };
        if !it.alive {
            return;
        }
        it.busy = false;
        let Some(status) = it.mailbox.pop_front() else {
            return;
        };
        if late_answers && status.task.get() % 3 == 0 {
            it.late += 1;
            let pause = (1 + status.task.get() * 37 % 1500) * MS;
            self.after(pause, Ev::ClientAnswers { client, status });
        } else {
            it.handled.push(status);
        }
        if let Some(it) = self.clients.get_mut(&client)
            && (confirm_now || it.mailbox.is_empty())
        {
            let handled = std::mem::take(&mut it.handled);
            self.confirm(client, &handled);
        }
        self.client_goes_on(client);
    }

    /// Lets the future of a handler end, later than those of statuses that came after it.
    pub fn client_answers(&mut self, client: u64, status: Told) {
        let Some(it) = self.clients.get_mut(&client) else {
            return;
        };
        // A future dies with its actor.
        if it.alive {
            it.late -= 1;
            self.confirm(client, &[status]);
        }
    }

    fn confirm(&mut self, client: u64, handled: &[Told]) {
        // A client of a dead scheduler confirms to nobody.
        let term = self.term;
        if !self.scheduler.alive || handled.iter().any(|told| told.term != term) {
            return;
        }
        let mut ranges: Vec<(u64, Range<usize>)> = Vec::new();
        for told in handled {
            self.oracle.on_confirmed(told.task);
            match ranges.last_mut() {
                Some((delivery, range))
                    if *delivery == told.delivery && range.end == told.place =>
                {
                    range.end += 1;
                }
                _ => ranges.push((told.delivery, told.place..told.place + 1)),
            }
        }
        for (delivery, handled) in ranges {
            self.tell_scheduler(Event::Confirmed {
                client: ClientId(client),
                delivery,
                handled,
            });
        }
    }

    /// Judges that a client which the scheduler lets go is told nothing more, and has confirmed all
    /// it was told.
    pub fn let_go(&mut self, client: ClientId) {
        let unconfirmed = self.clients.get(&client.0).is_some_and(|it| {
            let open = it.mailbox.iter().chain(&it.handled);
            it.alive && (it.late > 0 || open.clone().any(|told| told.term == self.term))
        });
        if unconfirmed || self.current_client == Some(client.0) {
            let wrong = format!("{client} is let go, and has statuses or is the current one");
            self.oracle.fail("G1", None, wrong);
        }
    }

    pub fn client_dies(&mut self, client: u64) {
        let Some(it) = self.clients.get_mut(&client) else {
            return;
        };
        if !it.alive {
            return;
        }
        it.alive = false;
        it.mailbox.clear();
        it.handled.clear();
        self.say(|| format!("# client {client} dies"));
        let pause = self.rng.u64(..10 * MS);
        let term = self.term;
        let event = Box::new(Event::ClientGone {
            client: ClientId(client),
        });
        self.after(pause, Ev::ToScheduler { term, event });
        if self.current_client == Some(client) {
            self.current_client = None;
        }
    }

    /// Answers the callers that wait for one task: most of them take the answer.
    pub fn answer(&mut self, status: TaskStatus, alone: bool) {
        self.say(|| format!("callers are told: {} {}", status.id, status.outcome));
        self.answered(&status, alone);
        if !alone {
            return;
        }
        self.told(None, &status);
        if self.rng.u32(..8) == 0 {
            self.oracle.on_unclaimed(status.id);
            if self.scheduler.log.is_some() {
                // Before it is written down that the caller has it.
                self.scheduler_handles(SchedulerIn::Event(Event::Unclaimed(status)));
                return;
            }
            let pause = self.rng.u64(..10 * MS);
            let term = self.term;
            let event = Box::new(Event::Unclaimed(status));
            self.after(pause, Ev::ToScheduler { term, event });
        }
    }

    pub fn own_client(&mut self) -> Option<u64> {
        self.clients
            .iter()
            .filter(|(id, client)| client.alive && Some(**id) != self.current_client)
            .map(|(id, _)| *id)
            .next()
    }
}
