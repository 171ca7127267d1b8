//! The virtual clients: who is told how a task ended, and when they confirm or die.
//!
//! Owns: their mailboxes. Does not know: whether what they are told is right (see `oracle`).

use std::collections::VecDeque;

use callboard::engine::{ClientId, Event};
use callboard::status::TaskStatus;
use callboard::task::TaskId;

use crate::cluster::{Cluster, Ev};
use crate::plan::{MS, Time};
use crate::scheduler::SchedulerIn;

#[derive(Debug, Default)]
pub struct Client {
    alive: bool,
    mailbox: VecDeque<(usize, TaskId)>,
    /// Handled, in order, and not confirmed yet.
    handled: Vec<(usize, TaskId)>,
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
        self.say(|| format!("# client {id} is set"));
        self.command(SchedulerIn::SetClient(Some(ClientId(id))));
    }

    pub fn deliver_statuses(&mut self, client: ClientId, statuses: Vec<TaskStatus>) {
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
        let life = self.lives;
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
        it.mailbox
            .extend(statuses.iter().map(|status| (life, status.id)));
        let outstanding = it.mailbox.len() + it.handled.len();
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
        let life = self.lives;
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
        it.handled.push(status);
        if confirm_now || it.mailbox.is_empty() {
            let handled = std::mem::take(&mut it.handled);
            // A client of a dead scheduler confirms to nobody.
            if handled.iter().all(|(of, _)| *of == life) && self.scheduler.alive {
                for (life, task) in &handled {
                    self.oracle.on_confirmed(*life, *task);
                }
                self.tell_scheduler(Event::Confirmed {
                    client: ClientId(client),
                    count: handled.len(),
                });
            }
        }
        self.client_goes_on(client);
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
        let life = self.lives;
        let event = Box::new(Event::ClientGone {
            client: ClientId(client),
        });
        self.after(pause, Ev::ToScheduler { life, event });
        if self.current_client == Some(client) {
            self.current_client = None;
        }
    }

    /// The callers that wait for one task: most of them take the answer.
    pub fn answer(&mut self, status: TaskStatus, alone: bool) {
        self.say(|| format!("callers are told: {} {}", status.id, status.outcome));
        self.answered(&status, alone);
        if !alone {
            return;
        }
        self.told(None, &status);
        if self.rng.u32(..8) == 0 {
            self.oracle.on_unclaimed(self.lives, status.id);
            let pause = self.rng.u64(..10 * MS);
            let life = self.lives;
            let event = Box::new(Event::Unclaimed(status));
            self.after(pause, Ev::ToScheduler { life, event });
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
