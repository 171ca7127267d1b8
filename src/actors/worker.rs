//! The actor of one worker: polls one attempt at a time.
//!
//! Owns: the actor, and how an attempt reaches it. Does not know: what an attempt is, which comes
//! next, or what follows from its end.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::{Rc, Weak};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};

use crate::engine::WorkerId;
use crate::say::say;

/// What an actor polls. It lives on the actor's thread and therefore cannot travel in a message.
type Attempt = Pin<Box<dyn Future<Output = ()>>>;

/// Where the next attempt lies for the actor. The actor owns it, so that an attempt which it never
/// took is dropped when the actor dies, as one which it polls is.
type Desk = Cell<Option<Attempt>>;

/// The actor of one worker. Started when its worker first has an attempt that does not end at once,
/// and again should it die.
pub struct WorkerActor {
    worker: WorkerId,
    desk: Rc<Desk>,
}

impl fmt::Debug for WorkerActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerActor")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl WorkerActor {
    fn take(&mut self, ctx: &mut Context<Self>) {
        if let Some(attempt) = self.desk.take() {
            ctx.spawn(actix::fut::wrap_future(attempt));
        }
    }
}

impl Actor for WorkerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        say!(trace: worker = %self.worker, "worker started");
        self.take(ctx);
    }
}

/// Poll what lies on your desk.
struct Take;

impl Message for Take {
    type Result = ();
}

impl Handler<Take> for WorkerActor {
    type Result = ();

    fn handle(&mut self, Take: Take, ctx: &mut Self::Context) {
        self.take(ctx);
    }
}

/// A started [`WorkerActor`]. It ends when this is dropped.
pub(super) struct StartedWorker {
    pub(super) addr: Addr<WorkerActor>,
    desk: Weak<Desk>,
}

impl StartedWorker {
    /// Starts an actor that polls an attempt.
    pub(super) fn new(worker: WorkerId, attempt: Attempt) -> Self {
        let desk = Rc::new(Desk::new(Some(attempt)));
        Self {
            desk: Rc::downgrade(&desk),
            addr: WorkerActor { worker, desk }.start(),
        }
    }

    /// Gives an attempt to the actor to poll. Hands it back if the actor has died.
    pub(super) fn poll(&self, attempt: Attempt) -> Result<(), Attempt> {
        match self.desk.upgrade() {
            Some(desk) if self.addr.connected() => {
                desk.set(Some(attempt));
                self.addr.do_send(Take);
                Ok(())
            }
            _ => Err(attempt),
        }
    }
}

#[cfg(test)]
mod tests;
