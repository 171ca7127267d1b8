//! Statuses on their way to a client, until the client has handled them.
//!
//! Owns: in which groups they are sent, and whose answer confirms which of them. Does not know:
//! what is given again, or to whom.
//!
//! By default each status asks for an answer of its own, since a handler that answers with a
//! future, or one of several threads of a `SyncArbiter`, may handle a later one first. Where the
//! client's type shows that it handles one after the other ([`Client::in_groups`]), the answer to
//! the last of a group confirms them all. This serves the bench row `local`; the row `local-each`
//! is the default.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use actix::dev::RecipientRequest;

use crate::client::Client;
use crate::status::TaskStatus;

/// How many statuses wait for their answers together. When one of them is answered, the others are
/// looked at too, so high values cost more for a client that answers late and out of order.
const TOGETHER: usize = 64;

type Request = Pin<Box<RecipientRequest<TaskStatus>>>;

/// Sends a status by a sender of its own. Actix parks a sender whose message finds a mailbox full,
/// until that message is taken out, and a message by one that is parked waits and is overtaken. How
/// much is with a client is bounded by the window, not by its mailbox.
fn send(client: &Client, status: TaskStatus) -> Request {
    Box::pin(client.recipient().clone().send(status))
}

/// What is to be sent to a client: deliveries of the engine, in order.
#[derive(Default)]
pub(super) struct Gathered {
    /// The number of each, and how many statuses it has.
    deliveries: Vec<(u64, usize)>,
    statuses: Vec<TaskStatus>,
}

impl Gathered {
    pub fn add(&mut self, delivery: u64, mut statuses: Vec<TaskStatus>) {
        self.deliveries.push((delivery, statuses.len()));
        if self.statuses.is_empty() {
            self.statuses = statuses;
        } else {
            self.statuses.append(&mut statuses);
        }
    }

    pub fn len(&self) -> usize {
        self.statuses.len()
    }

    /// Sends it, and returns the answers to wait for.
    pub fn send(self, client: &Client, bell: &Waker) -> Vec<Answers> {
        let mut statuses = self.statuses.into_iter();
        if client.is_in_groups() {
            let Some(last) = statuses.next_back() else {
                return Vec::new();
            };
            for status in statuses {
                client.recipient().do_send(status);
            }
            let one = Answers {
                waiting: AwaitedAnswers::Group(send(client, last), self.deliveries),
                woken: Woken::new(bell),
            };
            return vec![one];
        }
        let mut answers = Vec::new();
        for (delivery, count) in self.deliveries {
            for from in (0..count).step_by(TOGETHER) {
                let places = from..count.min(from + TOGETHER);
                let slots = places.clone().zip(&mut statuses);
                let slots = slots.map(|(_, status)| Slot::Sent(send(client, status)));
                let slots = slots.collect();
                answers.push(Answers {
                    waiting: AwaitedAnswers::Each(Each {
                        delivery,
                        from,
                        left: places.len(),
                        slots,
                    }),
                    woken: Woken::new(bell),
                });
            }
        }
        answers
    }
}

/// How far the answers of a client are that are waited for.
pub(super) enum Answered {
    /// Some answers are still to come.
    Waiting,
    /// All answers have come.
    All,
    /// The client is gone.
    Gone,
}

/// Answers of a client that are waited for.
pub(super) struct Answers {
    waiting: AwaitedAnswers,
    woken: Arc<Woken>,
}

enum AwaitedAnswers {
    /// A request of which one answer confirms these deliveries.
    Group(Request, Vec<(u64, usize)>),
    Each(Each),
}

struct Each {
    delivery: u64,
    /// The place of the first of them in the delivery.
    from: usize,
    slots: Vec<Slot>,
    left: usize,
}

enum Slot {
    Sent(Request),
    Answered,
    /// No answer will come: the client is gone, which may be seen a moment later, or its handler
    /// has panicked.
    Dropped,
    /// The engine knows that it was handled.
    Told,
}

impl Slot {
    /// Takes note of an answer that has come.
    fn look(&mut self, cx: &mut Context<'_>) {
        let Self::Sent(answer) = self else {
            return;
        };
        match answer.as_mut().poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => *self = Self::Answered,
            Poll::Ready(Err(_)) => *self = Self::Dropped,
        }
    }
}

impl Answers {
    /// Looks whether answers have come, if one has woken somebody, or at a `round`. Tells which are
    /// handled.
    pub fn look(
        &mut self,
        round: bool,
        connected: impl Fn() -> bool,
        mut handled: impl FnMut(u64, Range<usize>),
    ) -> Answered {
        if !self.woken.take() && !round {
            return Answered::Waiting;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        match &mut self.waiting {
            AwaitedAnswers::Group(answer, deliveries) => match answer.as_mut().poll(&mut cx) {
                Poll::Pending => Answered::Waiting,
                Poll::Ready(Ok(())) => {
                    for (delivery, count) in deliveries.drain(..) {
                        handled(delivery, 0..count);
                    }
                    Answered::All
                }
                Poll::Ready(Err(_)) => Answered::Gone,
            },
            AwaitedAnswers::Each(each) => each.look(round, &mut cx, connected, handled),
        }
    }
}

impl Each {
    fn look(
        &mut self,
        round: bool,
        cx: &mut Context<'_>,
        connected: impl Fn() -> bool,
        mut handled: impl FnMut(u64, Range<usize>),
    ) -> Answered {
        // Most clients handle them in order. Until the last is answered it alone is waited for, so
        // that one wake-up does for all; a client whose last takes long is heard at the next round.
        if !round && let Some(slot @ Slot::Sent(_)) = self.slots.last_mut() {
            slot.look(cx);
            if matches!(slot, Slot::Sent(_)) {
                return Answered::Waiting;
            }
        }
        for (at, slot) in self.slots.iter_mut().enumerate() {
            slot.look(cx);
            match slot {
                Slot::Sent(_) | Slot::Told => continue,
                Slot::Answered => {}
                Slot::Dropped if !connected() => return Answered::Gone,
                Slot::Dropped if !round => continue,
                // A panic of its handler ended the handling, and the client has outlived it.
                Slot::Dropped => {}
            }
            *slot = Slot::Told;
            self.left -= 1;
            let place = self.from + at;
            handled(self.delivery, place..place + 1);
        }
        if self.left == 0 {
            Answered::All
        } else {
            Answered::Waiting
        }
    }
}

/// Wakes a turn of the scheduler, and notes whose answer it was for.
struct Woken {
    bell: Waker,
    woken: AtomicBool,
}

impl Woken {
    /// Makes a waker that counts as woken: every answer is looked at once, to be waited for.
    fn new(bell: &Waker) -> Arc<Self> {
        Arc::new(Self {
            bell: bell.clone(),
            woken: AtomicBool::new(true),
        })
    }

    fn take(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.bell.wake_by_ref();
    }
}
