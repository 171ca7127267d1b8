//! The messages that the actor takes: each is handed to the machine and noted for the next turn.
//!
//! Owns: the way from a message to a command, and from its result to the answer. Does not know:
//! when a turn is taken.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{ActorContext, Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::ending::Waiter;
use super::replies::Reply;
use super::{Answer, Core, SchedulerActor, Taken};
use crate::actors::{
    AddNode, Attach, Cancel, Detach, Explain, GetStats, GetTrail, GetUnfinished, Halt,
    HandleShutdown, NoClient, SetClient, Shutdown, Submit,
};
use crate::engine::{Attached, Origin, Refused};
use crate::error::{NodeError, Stopped};
use crate::execute::{Execute, ExecuteMany, Leftovers};
use crate::links::Incoming;
use crate::stats::{Explanation, Stats, Unfinished};
use crate::status::CancelAnswer;
use crate::task::TaskId;
use crate::trail::TaskTrail;

/// The answer to an `Execute`: given when its effects have been taken, or, if nobody waits for it,
/// told by a status if it is a refusal.
pub struct ExecuteReply {
    core: Option<Rc<RefCell<Core>>>,
    result: Result<Taken, Refused>,
}

impl fmt::Debug for ExecuteReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteReply")
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ExecuteManyReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteManyReply")
            .field("results", &self.results)
            .finish_non_exhaustive()
    }
}

impl MessageResponse<SchedulerActor, Execute> for ExecuteReply {
    fn handle(self, _: &mut Context<SchedulerActor>, tx: Option<OneshotSender<Answer>>) {
        // Nobody waits to hear that it was accepted.
        if self.result.is_ok() && tx.is_none() {
            return;
        }
        let Some(core) = self.core else {
            return;
        };
        let mut core = core.borrow_mut();
        match (self.result, tx) {
            (Ok(_), None) => {}
            (result, Some(tx)) => {
                let mut joins = Vec::new();
                let answer = core.answer_of(result, &mut joins);
                core.answer(Reply::One(tx, answer), joins, None);
            }
            (Err(refused), None) => {
                let now = core.clock.now();
                core.machine.tell_refusal(now, refused);
            }
        }
    }
}

impl Handler<Execute> for SchedulerActor {
    type Result = ExecuteReply;

    fn handle(&mut self, execute: Execute, _: &mut Self::Context) -> ExecuteReply {
        let result = self.with(|core, now| core.submit(now, execute, None));
        match result {
            Ok(result) => ExecuteReply {
                core: self.core.clone(),
                result,
            },
            // The request is dropped, which tells its sender that the actor has stopped.
            Err(Stopped) => ExecuteReply {
                core: None,
                result: Ok(Taken {
                    id: TaskId::new(0),
                    joined: None,
                }),
            },
        }
    }
}

/// The answers to an `ExecuteMany`.
pub struct ExecuteManyReply {
    core: Option<Rc<RefCell<Core>>>,
    results: Vec<Result<Taken, Refused>>,
}

impl MessageResponse<SchedulerActor, ExecuteMany> for ExecuteManyReply {
    fn handle(self, _: &mut Context<SchedulerActor>, tx: Option<OneshotSender<Vec<Answer>>>) {
        let Some(core) = self.core else {
            return;
        };
        let mut core = core.borrow_mut();
        let Some(tx) = tx else {
            let now = core.clock.now();
            for refused in self.results.into_iter().filter_map(Result::err) {
                core.machine.tell_refusal(now, refused);
            }
            return;
        };
        let mut joins = Vec::new();
        let answers = self.results.into_iter();
        let answers = answers.map(|result| core.answer_of(result, &mut joins));
        let answers = answers.collect();
        core.answer(Reply::Many(tx, answers), joins, None);
    }
}

impl Handler<ExecuteMany> for SchedulerActor {
    type Result = ExecuteManyReply;

    fn handle(&mut self, many: ExecuteMany, _: &mut Self::Context) -> ExecuteManyReply {
        let results = self.with(|core, now| {
            let tasks = many.0.into_iter();
            tasks
                .map(|execute| core.submit(now, execute, None))
                .collect()
        });
        ExecuteManyReply {
            core: results.is_ok().then(|| self.core.clone()).flatten(),
            results: results.unwrap_or_default(),
        }
    }
}

impl Handler<Submit> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, submit: Submit, _: &mut Self::Context) {
        let Submit {
            execute,
            reply,
            caller,
            permit,
        } = submit;
        // Whoever has dropped the reply does not want to know.
        let _ = self.with(|core, now| {
            let result = core.submit(now, execute, caller);
            let mut joins = Vec::new();
            let answer = core.answer_of(result, &mut joins);
            // The permit goes with what waits to be stored.
            core.answer(Reply::One(reply, answer), joins, permit);
        });
    }
}

impl Handler<Attach> for SchedulerActor {
    type Result = ResponseFuture<Result<Attached, Stopped>>;

    fn handle(&mut self, attach: Attach, _: &mut Self::Context) -> Self::Result {
        let Attach { task, caller } = attach;
        let over = self.with(|core, now| {
            // Whoever is gone before it came to be asked is not to be let go of later.
            if caller.is_closed() {
                return None;
            }
            match core.machine.attach(now, task) {
                Attached::Waits => {
                    core.callers.wait(task, caller);
                    None
                }
                Attached::Over(status) => {
                    let (tx, over) = oneshot::channel();
                    core.answer(Reply::Over(tx, status), Vec::new(), None);
                    Some(over)
                }
            }
        });
        Box::pin(async move {
            match over? {
                Some(over) => over.await.map(Attached::Over).map_err(|_| Stopped),
                None => Ok(Attached::Waits),
            }
        })
    }
}

impl Handler<Detach> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, detach: Detach, _: &mut Self::Context) {
        // One that has ended has let go of all.
        let _ = self.with(|core, _| core.callers.let_go(detach.0));
    }
}

impl Handler<Cancel> for SchedulerActor {
    type Result = ResponseFuture<Result<CancelAnswer, Stopped>>;

    fn handle(&mut self, cancel: Cancel, _: &mut Self::Context) -> Self::Result {
        let waiting = self.with(|core, now| {
            let (ticket, waiting) = core.callers.ticket();
            core.machine.cancel(now, cancel.0, ticket);
            waiting
        });
        Box::pin(async move { waiting?.await.map_err(|_| Stopped) })
    }
}

impl Handler<GetStats> for SchedulerActor {
    type Result = Result<Stats, Stopped>;

    fn handle(&mut self, _: GetStats, _: &mut Self::Context) -> Self::Result {
        self.with(|core, now| {
            // What has been noted so far is to be seen in the numbers.
            core.turn(false);
            core.stats(now)
        })
    }
}

impl Handler<GetUnfinished> for SchedulerActor {
    type Result = Result<Vec<Unfinished>, Stopped>;

    fn handle(&mut self, _: GetUnfinished, _: &mut Self::Context) -> Self::Result {
        self.with(|core, _| core.machine.unfinished())
    }
}

impl Handler<Explain> for SchedulerActor {
    type Result = Result<Option<Explanation>, Stopped>;

    fn handle(&mut self, explain: Explain, _: &mut Self::Context) -> Self::Result {
        self.with(|core, now| {
            core.turn(false);
            core.machine.explain(now, explain.0)
        })
    }
}

impl Handler<GetTrail> for SchedulerActor {
    type Result = Result<TaskTrail, Stopped>;

    fn handle(&mut self, get: GetTrail, _: &mut Self::Context) -> Self::Result {
        self.with(|core, _| {
            core.turn(false);
            core.machine.trail(get.0)
        })
    }
}

impl Handler<AddNode> for SchedulerActor {
    type Result = ResponseFuture<Result<(), NodeError>>;

    fn handle(&mut self, add: AddNode, _: &mut Self::Context) -> Self::Result {
        let AddNode {
            name,
            reach,
            workers,
            refusal_means_dead,
            keep,
            linked,
        } = add;
        let core = self.core.clone();
        let added = self.with(|core, now| {
            let node = core.machine.add_node(now, Arc::clone(&name), reach)?;
            core.machine.believe_refusals(node, refusal_means_dead);
            if let Some(workers) = workers
                && let Err(error) = core.machine.set_workers(now, Some(&name), workers)
            {
                // It was never up, so that taking it out changes nothing else.
                let _ = core.machine.remove_node(now, &name);
                return Err(error);
            }
            if let Some(linked) = linked
                && let (link, Some(sender)) = (linked.link, linked.adopt())
            {
                let opened = core.links.hear(Incoming::Attach {
                    link,
                    origin: Origin::Dialled(node),
                    ends: Default::default(),
                    sender,
                });
                core.machine.handle(now, opened);
            }
            // The store may have known it: then it may be up already, or be at work where it cannot
            // be reached.
            let keep = keep || core.machine.may_work(node);
            let is_up = core.machine.is_up(node);
            Ok::<_, NodeError>((core.nodes.expect(node, is_up), keep))
        });
        Box::pin(async move {
            let (up, keep) = added??;
            let reason = match up.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(reason)) => reason,
                Err(_) => return Err(NodeError::Stopped),
            };
            if !keep && let Some(core) = core {
                let mut core = core.borrow_mut();
                let now = core.clock.now();
                // Nothing can have been placed on it, since it was never up.
                let _ = core.machine.remove_node(now, &name);
                core.noted();
            }
            Err(NodeError::Unreachable {
                name: name.to_string(),
                reason,
            })
        })
    }
}

impl Handler<SetClient> for SchedulerActor {
    type Result = Result<(), Stopped>;

    fn handle(&mut self, set: SetClient, _: &mut Self::Context) -> Self::Result {
        self.with(|core, now| {
            let client = set.0.map(|client| core.clients.enter(client));
            core.machine.set_client(now, client);
        })
    }
}

impl Handler<NoClient> for SchedulerActor {
    type Result = Result<(), Stopped>;

    fn handle(&mut self, _: NoClient, _: &mut Self::Context) -> Self::Result {
        self.with(|core, now| core.machine.tell_nobody(now))
    }
}

/// The answer to a shutdown, given at the end.
pub struct EndReply<R> {
    core: Option<Rc<RefCell<Core>>>,
    shutdown: Shutdown,
    waiting: fn(OneshotSender<Result<R, Stopped>>) -> Waiter,
}

impl<R> fmt::Debug for EndReply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndReply").field(&self.shutdown).finish()
    }
}

impl<M, R> MessageResponse<SchedulerActor, M> for EndReply<R>
where
    M: Message<Result = Result<R, Stopped>>,
{
    fn handle(self, _: &mut Context<SchedulerActor>, tx: Option<OneshotSender<M::Result>>) {
        // Without it the sender is dropped, which tells that the actor has stopped.
        if let Some(core) = self.core {
            let mut core = core.borrow_mut();
            let now = core.clock.now();
            core.begin_ending(now, self.shutdown, tx.map(self.waiting));
            core.noted();
        }
    }
}

impl SchedulerActor {
    fn end_reply<R>(
        &self,
        shutdown: Shutdown,
        waiting: fn(OneshotSender<Result<R, Stopped>>) -> Waiter,
    ) -> EndReply<R> {
        let core = self.core.clone();
        EndReply {
            core: core.filter(|core| !core.borrow().ended),
            shutdown,
            waiting,
        }
    }
}

impl Handler<Shutdown> for SchedulerActor {
    type Result = EndReply<Leftovers>;

    fn handle(&mut self, shutdown: Shutdown, _: &mut Self::Context) -> Self::Result {
        self.end_reply(shutdown, Waiter::Taker)
    }
}

impl Handler<HandleShutdown> for SchedulerActor {
    type Result = EndReply<()>;

    fn handle(&mut self, end: HandleShutdown, _: &mut Self::Context) -> Self::Result {
        self.end_reply(end.0, Waiter::Told)
    }
}

impl Handler<Halt> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
