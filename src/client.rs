//! Who is told how tasks end, and when each telling counts as handled.
//!
//! Owns: the choice between an answer to each status and one to a group. Does not know: what is
//! told, or when.

use std::fmt;

use actix::{Actor, Addr, Context, Handler, Recipient};

use crate::status::TaskStatus;

/// An actor that is told how tasks end.
///
/// A status counts as handled when its own handling has ended: when `handle` has returned, and, if
/// it returns a future, when that future has. What was not handled when a client dies is told to
/// the next one, marked with [`TaskStatus::is_given_again`]. A handler that panics counts as one
/// that has ended, if its actor lives on, as in a `SyncArbiter`.
///
/// It is made of a `Recipient`, by `into()`, or by [`Client::in_groups`].
///
/// ```
/// use actix::prelude::*;
/// use callboard::{Client, Execute, TaskStatus};
///
/// struct Teller;
///
/// impl Actor for Teller {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<TaskStatus> for Teller {
///     type Result = ();
///
///     fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
///         println!("{} {}", status.id, status.outcome);
///     }
/// }
///
/// # System::new().block_on(async {
/// let teller = Teller.start();
/// let each = Execute::named("hello", &())?.client(teller.clone().recipient());
/// let grouped = Execute::named("hello", &())?.client(Client::in_groups(&teller));
/// # Ok::<_, callboard::error::EncodeError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Client {
    recipient: Recipient<TaskStatus>,
    confirms: Confirms,
}

/// What a client's answer to a status confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirms {
    Each,
    /// All that it was sent before, too.
    Group,
}

impl Client {
    /// Makes a client whose answer to the last of a group of statuses confirms them all. That costs
    /// the scheduler's thread less time for each task than an answer to each status.
    ///
    /// Only an actor that handles one status after the other can be such a client. The bounds on
    /// its type make sure of that: it lives on one thread, and its handler returns nothing. What
    /// such a handler begins, with `ctx.spawn` for example, is its own affair: the status counts as
    /// handled when `handle` returns.
    pub fn in_groups<A>(client: &Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<TaskStatus, Result = ()>,
    {
        Self {
            recipient: client.clone().recipient(),
            confirms: Confirms::Group,
        }
    }

    pub(crate) fn recipient(&self) -> &Recipient<TaskStatus> {
        &self.recipient
    }

    pub(crate) fn is_in_groups(&self) -> bool {
        self.confirms == Confirms::Group
    }
}

impl From<Recipient<TaskStatus>> for Client {
    fn from(recipient: Recipient<TaskStatus>) -> Self {
        Self {
            recipient,
            confirms: Confirms::Each,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.confirms).finish()
    }
}
