//! The floors in one process: bare actix actors that hand each message on.

use std::time::Instant;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::Scale;
use super::latency::{Spans, percentiles};

#[derive(Message)]
#[rtype(result = "()")]
struct Hand(u64);

/// Hands each message on, the last one tells.
struct Link {
    next: Option<Recipient<Hand>>,
    left: u64,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Link {
    type Context = Context<Self>;
}

impl Handler<Hand> for Link {
    type Result = ();

    fn handle(&mut self, hand: Hand, _: &mut Self::Context) {
        if let Some(next) = &self.next {
            next.do_send(Hand(hand.0 + 1));
            return;
        }
        self.left -= 1;
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            // The bench waits for it.
            let _ = done.send(());
        }
    }
}

/// The actors that a task passes, as hops that do nothing: scheduler, node, worker, node,
/// scheduler, client.
const HOPS: usize = 6;

/// Hands numbers through all hops, which are spread over so many arbiters.
fn chain(count: u64, arbiters: usize) -> f64 {
    System::new().block_on(async move {
        let arbiters: Vec<_> = (0..arbiters).map(|_| Arbiter::new()).collect();
        let (tx, rx) = oneshot::channel();
        let mut next = None;
        let mut done = Some(tx);
        for index in (0..HOPS).rev() {
            let (after, told) = (next.take(), done.take());
            let arbiter = &arbiters[index % arbiters.len()];
            let link = Link::start_in_arbiter(&arbiter.handle(), move |_| Link {
                next: after,
                left: count,
                done: told,
            });
            next = Some(link.recipient());
        }
        let first = next.expect("the chain has links");
        let began = Instant::now();
        for n in 0..count {
            first.do_send(Hand(n));
        }
        rx.await.expect("the last link tells");
        let rate = count as f64 / began.elapsed().as_secs_f64();
        for arbiter in arbiters {
            arbiter.stop();
        }
        rate
    })
}

pub fn chain_one(scale: &Scale) -> f64 {
    chain(scale.of(2_000_000), 1)
}

pub fn chain_three(scale: &Scale) -> f64 {
    chain(scale.of(1_000_000), 3)
}

/// Sends a message once round the ring, and the next when it is back.
struct Head {
    next: Option<Recipient<Hand>>,
    spans: Spans,
}

impl Actor for Head {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Begin(Recipient<Hand>);

impl Handler<Begin> for Head {
    type Result = ();

    fn handle(&mut self, begin: Begin, _: &mut Self::Context) {
        self.next = Some(begin.0);
        self.send();
    }
}

impl Handler<Hand> for Head {
    type Result = ();

    fn handle(&mut self, _: Hand, _: &mut Self::Context) {
        if self.spans.end() {
            self.send();
        }
    }
}

impl Head {
    fn send(&mut self) {
        self.spans.begin();
        if let Some(next) = &self.next {
            next.do_send(Hand(0));
        }
    }
}

/// Measures one message at a time round three actors on three arbiters: a local task passes as many
/// threads, those of the client, the scheduler and the worker.
pub fn ring(scale: &Scale) -> [f64; 3] {
    let count = scale.of(20_000);
    System::new().block_on(async move {
        let arbiters = [Arbiter::new(), Arbiter::new(), Arbiter::new()];
        let (spans, told) = Spans::new(count);
        let head = Head::start_in_arbiter(&arbiters[0].handle(), |_| Head { next: None, spans });
        let mut next = head.clone().recipient();
        for arbiter in &arbiters[1..] {
            let after = next;
            let link = Link::start_in_arbiter(&arbiter.handle(), move |_| Link {
                next: Some(after),
                left: 0,
                done: None,
            });
            next = link.recipient();
        }
        head.do_send(Begin(next));
        let spans = told.await.expect("the head tells");
        for arbiter in arbiters {
            arbiter.stop();
        }
        percentiles(spans)
    })
}
