//! The clients and watchers as actix recipients; to the engine they are numbers.
//!
//! Owns: which number is whose, the sending of statuses, and noticing that a client is gone. Does
//! not know: which status is for whom.

use std::collections::HashMap;
use std::task::Waker;

use actix::Recipient;

use super::deliveries::{Answered, Answers, Gathered};
use crate::client::Client;
use crate::engine::{ClientId, Event};
use crate::status::{TaskEvent, TaskStatus};

/// What a scheduler does when its client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientGone {
    /// Go on and hold the statuses, up to a bound, for the next client. The default.
    #[default]
    Hold,
    /// Log the counts and shut down.
    Stop,
}

/// See the module.
pub(super) struct Clients {
    on_gone: ClientGone,
    last: u64,
    /// Numbers that were given back.
    free: Vec<ClientId>,
    clients: HashMap<ClientId, Client>,
    numbers: HashMap<Recipient<TaskStatus>, ClientId>,
    watchers: HashMap<ClientId, Recipient<TaskEvent>>,
    watcher_numbers: HashMap<Recipient<TaskEvent>, ClientId>,
    /// The answers that are waited for, in order of their sending.
    answers: Vec<(ClientId, Answers)>,
    waker: Waker,
}

impl Clients {
    /// Makes a list without clients. `waker` is woken when an answer has come that was waited for.
    pub fn new(on_gone: ClientGone, waker: Waker) -> Self {
        Self {
            on_gone,
            last: 0,
            free: Vec::new(),
            clients: HashMap::new(),
            numbers: HashMap::new(),
            watchers: HashMap::new(),
            watcher_numbers: HashMap::new(),
            answers: Vec::new(),
            waker,
        }
    }

    pub fn on_gone(&self) -> ClientGone {
        self.on_gone
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.watchers.is_empty()
    }

    /// Takes a number that the engine has nothing under: one that it let go, or a new one.
    fn number(&mut self) -> ClientId {
        self.free.pop().unwrap_or_else(|| {
            self.last += 1;
            ClientId(self.last)
        })
    }

    pub fn enter(&mut self, client: Client) -> ClientId {
        if let Some(&number) = self.numbers.get(client.recipient()) {
            return number;
        }
        let number = self.number();
        self.numbers.insert(client.recipient().clone(), number);
        self.clients.insert(number, client);
        number
    }

    pub fn enter_watcher(&mut self, watcher: Recipient<TaskEvent>) -> ClientId {
        if let Some(&number) = self.watcher_numbers.get(&watcher) {
            return number;
        }
        let number = self.number();
        self.watchers.insert(number, watcher.clone());
        self.watcher_numbers.insert(watcher, number);
        number
    }

    pub fn client(&self, number: ClientId) -> Option<Client> {
        self.clients.get(&number).cloned()
    }

    pub fn watcher(&self, number: ClientId) -> Option<Recipient<TaskEvent>> {
        self.watchers.get(&number).cloned()
    }

    /// Returns the clients that are gone. Forgets watchers that are gone; their numbers stay taken
    /// until the engine lets them go.
    pub fn gone(&mut self) -> Vec<ClientId> {
        let numbers = &mut self.watcher_numbers;
        self.watchers.retain(|_, watcher| {
            let connected = watcher.connected();
            if !connected {
                numbers.remove(watcher);
            }
            connected
        });
        let clients = self.clients.iter();
        let mut gone: Vec<_> = clients
            .filter(|(_, client)| !client.recipient().connected())
            .map(|(&number, _)| number)
            .collect();
        gone.sort_unstable();
        gone
    }

    /// Forgets a client that is gone, and returns what it had handled. Its number stays taken until
    /// the engine lets it go.
    pub fn forget(&mut self, number: ClientId) -> Vec<Event> {
        let mut events = Vec::new();
        for (_, mut answers) in self.answers.extract_if(.., |(client, _)| *client == number) {
            let client = number;
            answers.look(
                true,
                || false,
                |delivery, handled| {
                    events.push(Event::Confirmed {
                        client,
                        delivery,
                        handled,
                    });
                },
            );
        }
        if let Some(client) = self.clients.remove(&number) {
            self.numbers.remove(client.recipient());
        }
        events
    }

    /// Forgets a client or watcher that nothing names any more, and frees its number.
    pub fn let_go(&mut self, number: ClientId) {
        self.forget(number);
        if let Some(watcher) = self.watchers.remove(&number) {
            self.watcher_numbers.remove(&watcher);
        }
        self.free.push(number);
    }

    pub fn notify(&self, watcher: ClientId, event: TaskEvent) {
        if let Some(watcher) = self.watchers.get(&watcher) {
            watcher.do_send(event);
        }
    }

    /// Sends what has gathered for a client. `false` if the client is gone.
    pub fn deliver(&mut self, number: ClientId, gathered: Gathered) -> bool {
        let client = self.clients.get(&number);
        let Some(client) = client.filter(|client| client.recipient().connected()) else {
            return false;
        };
        let answers = gathered.send(client, &self.waker);
        let answers = answers.into_iter().map(|answers| (number, answers));
        self.answers.extend(answers);
        true
    }

    /// Returns what was heard of the deliveries since the last look. They are looked at in each
    /// turn, and not by a future of their own, which a flooded mailbox would keep from being
    /// polled. At a `round` each answer is looked for, whether or not somebody was woken by it.
    pub fn answers(&mut self, round: bool) -> Vec<Event> {
        let mut events = Vec::new();
        let clients = &self.clients;
        self.answers.retain_mut(|(number, answers)| {
            let client = *number;
            let Some(it) = clients.get(&client) else {
                return false;
            };
            let connected = || it.recipient().connected();
            let found = answers.look(round, connected, |delivery, handled| {
                events.push(Event::Confirmed {
                    client,
                    delivery,
                    handled,
                });
            });
            match found {
                Answered::Waiting => return true,
                Answered::All => {}
                Answered::Gone => events.push(Event::ClientGone { client }),
            }
            false
        });
        events
    }
}
