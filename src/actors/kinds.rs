//! What an operator wishes of kinds, as messages.
//!
//! Owns: the messages. Does not know: what follows (see the machine).

use actix::Message;

use crate::error::{KindError, Stopped};
use crate::limit::Limit;
use crate::task::TaskKind;

/// To a [`SchedulerActor`](super::scheduler::SchedulerActor): no task of a kind is started, or of
/// any, until a [`Resume`] of the same.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::Pause;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// scheduler.addr().send(Pause(Some("mail.send".into()))).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pause(
    /// The kind; `None` is all.
    pub Option<TaskKind>,
);

/// To a [`SchedulerActor`](super::scheduler::SchedulerActor): the end of a [`Pause`] of the same
/// kind, or of that of all.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::Resume;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// scheduler.addr().send(Resume(None)).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Resume(
    /// The kind; `None` ends a pause of all.
    pub Option<TaskKind>,
);

/// To a [`SchedulerActor`](super::scheduler::SchedulerActor): no task of a kind is taken in, until
/// an [`OpenIntake`] of it.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::CloseIntake;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// scheduler.addr().send(CloseIntake("mail.send".into())).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CloseIntake(pub TaskKind);

/// To a [`SchedulerActor`](super::scheduler::SchedulerActor): the end of a [`CloseIntake`].
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::OpenIntake;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// scheduler.addr().send(OpenIntake("mail.send".into())).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OpenIntake(pub TaskKind);

/// To a [`SchedulerActor`](super::scheduler::SchedulerActor): how many tasks of a kind may go on at
/// once, and how often one may start.
///
/// ```
/// # use callboard::{Limit, Scheduler};
/// # use callboard::messages::SetLimit;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// let (kind, limit) = ("mail.send".into(), Limit::concurrency(40));
/// scheduler.addr().send(SetLimit { kind, limit }).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SetLimit {
    /// The kind.
    pub kind: TaskKind,
    /// What is allowed; [`Limit::new`] is no limit.
    pub limit: Limit,
}

impl Message for SetLimit {
    type Result = Result<(), KindError>;
}

impl Message for Pause {
    type Result = Result<(), KindError>;
}

impl Message for Resume {
    type Result = Result<(), Stopped>;
}

impl Message for CloseIntake {
    type Result = Result<(), KindError>;
}

impl Message for OpenIntake {
    type Result = Result<(), Stopped>;
}
