//! The answers to `Execute` and to `Attach`, until they may be given.
//!
//! Owns: that an acceptance, or an end, is told only when what it promises is stored. Does not
//! know: when that is, or why a task is refused.

use std::collections::{HashMap, HashSet, VecDeque};

use actix::dev::OneshotSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Answer;
use crate::contain::shielded;
use crate::execute::{Execute, ExecuteError};
use crate::status::TaskStatus;
use crate::task::TaskId;

/// An answer, and who waits for it.
pub(super) enum Reply {
    One(OneshotSender<Answer>, Answer),
    Many(OneshotSender<Vec<Answer>>, Vec<Answer>),
    /// A task is over, and has ended so if that is known here.
    Over(oneshot::Sender<Option<TaskStatus>>, Option<TaskStatus>),
}

/// What was handed in and has joined an earlier task, by that task's id.
pub(super) type Joined = Vec<(TaskId, Box<Execute>)>;

/// An answer that waits for a batch.
struct Held {
    batch: u64,
    reply: Reply,
    joined: Joined,
    /// Bounds how many wait.
    _permit: Option<OwnedSemaphorePermit>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Replies {
    /// Answers to be given when the effects of this turn have been taken.
    ready: Vec<Reply>,
    /// Answers to be given when a batch is stored, in order of their batches.
    held: VecDeque<Held>,
}

impl Replies {
    /// Takes an answer that may be given at the end of the turn.
    #[inline]
    pub fn ready(&mut self, reply: Reply) {
        self.ready.push(reply);
    }

    /// Takes an answer that may be given when a batch is stored.
    pub fn hold(
        &mut self,
        batch: u64,
        reply: Reply,
        joined: Joined,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        self.held.push_back(Held {
            batch,
            reply,
            joined,
            _permit: permit,
        });
    }

    /// Gives the answers that may be given when all up to this batch is stored.
    pub fn give(&mut self, stored: u64) {
        self.ready.drain(..).for_each(Reply::give);
        while self.held.front().is_some_and(|held| held.batch <= stored)
            && let Some(held) = self.held.pop_front()
        {
            held.reply.give();
        }
    }

    /// Returns the tasks that somebody waits to hear of that they were accepted.
    pub fn awaited(&self) -> HashSet<TaskId> {
        let replies = self.held.iter().map(|held| &held.reply);
        replies.flat_map(|reply| reply.accepted()).collect()
    }

    /// Refuses tasks after all. What has joined one is handed back as it was handed in.
    pub fn refuse(&mut self, refused: &HashMap<TaskId, ExecuteError>) {
        for mut held in std::mem::take(&mut self.held) {
            let Held { reply, joined, .. } = &mut held;
            for answer in reply.answers() {
                let Ok(id) = *answer else { continue };
                let Some(error) = refused.get(&id) else {
                    continue;
                };
                let own = joined.iter().position(|(task, _)| *task == id);
                let own = own.map(|at| joined.swap_remove(at).1);
                *answer = Err(ExecuteError {
                    refusal: error.refusal.clone(),
                    execute: own.unwrap_or_else(|| error.execute.clone()),
                });
            }
            if held.reply.promises() {
                self.held.push_back(held);
            } else {
                self.ready.push(held.reply);
            }
        }
    }
}

impl Reply {
    /// Gives it.
    fn give(self) {
        // Whoever has dropped the request does not want to know. Its waker is code of others.
        shielded(|| match self {
            Self::One(tx, answer) => drop(tx.send(answer)),
            Self::Many(tx, answers) => drop(tx.send(answers)),
            Self::Over(tx, status) => drop(tx.send(status)),
        });
    }

    /// Returns whether it tells that anything was accepted, or is over.
    pub fn promises(&self) -> bool {
        matches!(self, Self::Over(..)) || self.accepted().next().is_some()
    }

    fn answers(&mut self) -> &mut [Answer] {
        match self {
            Self::One(_, answer) => std::slice::from_mut(answer),
            Self::Many(_, answers) => answers,
            Self::Over(..) => &mut [],
        }
    }

    fn accepted(&self) -> impl Iterator<Item = TaskId> {
        let answers = match self {
            Self::One(_, answer) => std::slice::from_ref(answer),
            Self::Many(_, answers) => answers,
            Self::Over(..) => &[],
        };
        answers
            .iter()
            .filter_map(|answer| answer.as_ref().ok().copied())
    }
}
