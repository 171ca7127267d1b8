//! What operators ask of a scheduler: of its nodes, of kinds, of the policy of retries.
//!
//! Owns: the way from each message to its command, and that it is counted what was asked for. Does
//! not know: what a command does.

use actix::{Context, Handler, ResponseFuture};

use super::{Core, SchedulerActor};
use crate::actors::kinds::{CloseIntake, OpenIntake, Pause, Resume, SetLimit};
use crate::actors::{DeclareDead, DrainNode, RemoveNode, SetRetry, SetWorkers};
use crate::engine::Timestamp;
use crate::error::{KindError, NodeError, Stopped};
use crate::snapshot::Done;

impl SchedulerActor {
    /// Does what an operator asks for, and counts it under this name.
    pub(super) fn operate<E>(
        &self,
        name: &'static str,
        act: impl FnOnce(&mut Core, Timestamp) -> Result<(), E>,
    ) -> Result<Result<(), E>, Stopped> {
        self.with(|core, now| {
            let result = act(core, now);
            let done = match result {
                Ok(()) => Done::Yes,
                Err(_) => Done::Refused,
            };
            core.turns.acted(name, done);
            result
        })
    }
}

impl Handler<RemoveNode> for SchedulerActor {
    type Result = Result<(), NodeError>;

    fn handle(&mut self, remove: RemoveNode, _: &mut Context<Self>) -> Self::Result {
        self.operate("remove_node", |core, now| {
            core.machine.remove_node(now, &remove.0)
        })?
    }
}

impl Handler<DeclareDead> for SchedulerActor {
    type Result = Result<(), NodeError>;

    fn handle(&mut self, declare: DeclareDead, _: &mut Context<Self>) -> Self::Result {
        self.operate("declare_dead", |core, now| {
            core.machine.declare_dead(now, &declare.0)
        })?
    }
}

impl Handler<DrainNode> for SchedulerActor {
    type Result = ResponseFuture<Result<(), NodeError>>;

    fn handle(&mut self, drain: DrainNode, _: &mut Context<Self>) -> Self::Result {
        let drained = self.operate("drain_node", |core, now| {
            core.machine.drain_node(now, &drain.0)
        });
        let left = self.with(|core, now| {
            drained??;
            let stats = core.machine.stats(now);
            Ok::<_, NodeError>(core.nodes.expect_left(&stats, &drain.0))
        });
        Box::pin(async move {
            let left = left??;
            left.await.unwrap_or(Err(NodeError::Stopped))
        })
    }
}

impl Handler<SetWorkers> for SchedulerActor {
    type Result = Result<(), NodeError>;

    fn handle(&mut self, set: SetWorkers, _: &mut Context<Self>) -> Self::Result {
        self.operate("set_workers", |core, now| {
            core.machine
                .set_workers(now, set.node.as_deref(), set.workers)
        })?
    }
}

impl Handler<SetRetry> for SchedulerActor {
    type Result = Result<(), Stopped>;

    fn handle(&mut self, set: SetRetry, _: &mut Context<Self>) -> Self::Result {
        self.operate("set_retry", |core, now| {
            core.machine.set_retry(now, set.0);
            Ok(())
        })?
    }
}

impl Handler<Pause> for SchedulerActor {
    type Result = Result<(), KindError>;

    fn handle(&mut self, Pause(kind): Pause, _: &mut Context<Self>) -> Self::Result {
        self.operate("pause", |core, now| core.machine.pause(now, kind.as_ref()))?
    }
}

impl Handler<Resume> for SchedulerActor {
    type Result = Result<(), Stopped>;

    fn handle(&mut self, Resume(kind): Resume, _: &mut Context<Self>) -> Self::Result {
        self.operate("resume", |core, now| {
            core.machine.resume(now, kind.as_ref());
            Ok(())
        })?
    }
}

impl Handler<CloseIntake> for SchedulerActor {
    type Result = Result<(), KindError>;

    fn handle(&mut self, CloseIntake(kind): CloseIntake, _: &mut Context<Self>) -> Self::Result {
        self.operate("close_intake", |core, now| {
            core.machine.close_intake(now, &kind)
        })?
    }
}

impl Handler<OpenIntake> for SchedulerActor {
    type Result = Result<(), Stopped>;

    fn handle(&mut self, OpenIntake(kind): OpenIntake, _: &mut Context<Self>) -> Self::Result {
        self.operate("open_intake", |core, now| {
            core.machine.open_intake(now, &kind);
            Ok(())
        })?
    }
}

impl Handler<SetLimit> for SchedulerActor {
    type Result = Result<(), KindError>;

    fn handle(&mut self, set: SetLimit, _: &mut Context<Self>) -> Self::Result {
        self.operate("set_limit", |core, now| {
            core.machine.set_limit(now, &set.kind, set.limit)
        })?
    }
}
