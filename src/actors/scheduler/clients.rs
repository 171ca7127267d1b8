//! The clients and watchers as actix recipients; to the engine they are numbers.
//!
//! Owns: which number is whose, the sending of statuses in groups, and noticing that a client is gone.
//! Does not know: which status is for whom.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use actix::dev::RecipientRequest;
use actix::{MailboxError, Recipient};

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
    next: u64,
    clients: HashMap<ClientId, Recipient<TaskStatus>>,
    numbers: HashMap<Recipient<TaskStatus>, ClientId>,
    watchers: HashMap<ClientId, Recipient<TaskEvent>>,
    watcher_numbers: HashMap<Recipient<TaskEvent>, ClientId>,
    /// In order of their sending.
    groups: Vec<Group>,
    waker: Waker,
}

impl Clients {
    /// `waker` is woken when an answer has come that was waited for.
    pub fn new(on_gone: ClientGone, waker: Waker) -> Self {
        Self {
            on_gone,
            next: 1,
            clients: HashMap::new(),
            numbers: HashMap::new(),
            watchers: HashMap::new(),
            watcher_numbers: HashMap::new(),
            groups: Vec::new(),
            waker,
        }
    }

    pub fn on_gone(&self) -> ClientGone {
        self.on_gone
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.watchers.is_empty()
    }

    fn number(&mut self) -> ClientId {
        let number = ClientId(self.next);
        self.next += 1;
        number
    }

    pub fn enter(&mut self, client: Recipient<TaskStatus>) -> ClientId {
        if let Some(&number) = self.numbers.get(&client) {
            return number;
        }
        let number = self.number();
        self.clients.insert(number, client.clone());
        self.numbers.insert(client, number);
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

    pub fn client(&self, number: ClientId) -> Option<Recipient<TaskStatus>> {
        self.clients.get(&number).cloned()
    }

    pub fn watcher(&self, number: ClientId) -> Option<Recipient<TaskEvent>> {
        self.watchers.get(&number).cloned()
    }

    /// Clients that are gone. Watchers that are gone are forgotten.
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
            .filter(|(_, client)| !client.connected())
            .map(|(&number, _)| number)
            .collect();
        gone.sort_unstable();
        gone
    }

    pub fn forget(&mut self, number: ClientId) {
        if let Some(client) = self.clients.remove(&number) {
            self.numbers.remove(&client);
        }
    }

    pub fn notify(&self, watcher: ClientId, event: TaskEvent) {
        if let Some(watcher) = self.watchers.get(&watcher) {
            watcher.do_send(event);
        }
    }

    /// Sends a group of statuses. A mailbox is in order, so the answer to the last one confirms them
    /// all. `false` if the client is gone.
    pub fn deliver(&mut self, client: ClientId, mut statuses: Vec<TaskStatus>) -> bool {
        let recipient = self.clients.get(&client);
        let Some(recipient) = recipient.filter(|recipient| recipient.connected()) else {
            return false;
        };
        let count = statuses.len();
        let Some(last) = statuses.pop() else {
            return true;
        };
        for status in statuses {
            recipient.do_send(status);
        }
        self.groups.push(Group {
            client,
            count,
            answer: Box::pin(recipient.send(last)),
        });
        true
    }

    /// What has become of the groups since the last look. They are looked at in each turn, and not by a
    /// future of their own, which a flooded mailbox would keep from being polled.
    pub fn answers(&mut self) -> Vec<Event> {
        let mut cx = Context::from_waker(&self.waker);
        let mut events = Vec::new();
        self.groups.retain_mut(|group| {
            let client = group.client;
            match group.answer.as_mut().poll(&mut cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(())) => events.push(Event::Confirmed {
                    client,
                    count: group.count,
                }),
                Poll::Ready(Err(MailboxError::Closed | MailboxError::Timeout)) => {
                    events.push(Event::ClientGone { client });
                }
            }
            false
        });
        events
    }
}

/// Statuses that are with a client.
struct Group {
    client: ClientId,
    count: usize,
    answer: Pin<Box<RecipientRequest<TaskStatus>>>,
}
