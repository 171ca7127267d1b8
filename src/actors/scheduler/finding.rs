//! How the actor answers a search.
//!
//! Owns: how many steps one message is worth, and that all else comes in between. Does not know:
//! how many tasks a step looks at.

use std::cell::RefCell;

use actix::{Handler, ResponseFuture};

use super::{Core, SchedulerActor};
use crate::actors::finding::Find;
use crate::contain::contained;
use crate::error::Stopped;
use crate::search::Step;

/// How many tasks one message looks at before it answers, unless it finds enough first.
const LOOKS: u64 = 4096;

impl Handler<Find> for SchedulerActor {
    type Result = ResponseFuture<Result<Step, Stopped>>;

    fn handle(&mut self, mut find: Find, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        Box::pin(async move {
            let core = core.ok_or(Stopped)?;
            let mut all = Step::default();
            loop {
                let step = look(&core, &find)?;
                find.limit -= step.tasks.len();
                find.after = step.next;
                all.looked += step.looked;
                all.next = step.next;
                all.tasks.extend(step.tasks);
                if all.next.is_none() || find.limit == 0 || all.looked >= LOOKS {
                    return Ok(all);
                }
                // What has come meanwhile goes first.
                tokio::task::yield_now().await;
            }
        })
    }
}

/// Looks at a few tasks. That changes nothing, so no turn follows.
fn look(core: &RefCell<Core>, find: &Find) -> Result<Step, Stopped> {
    let mut core = core.borrow_mut();
    core.enter()?;
    let (now, search) = (core.moment, find.search());
    let looked = contained(|| core.machine.look_for(now, &search));
    looked.map_err(|message| core.broken(&message))
}

#[cfg(feature = "dashboard")]
impl Handler<crate::actors::finding::GetPulse> for SchedulerActor {
    type Result = Result<crate::engine::meter::Pulse, Stopped>;

    fn handle(
        &mut self,
        _: crate::actors::finding::GetPulse,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.with(|core, _| core.machine.pulse())
    }
}
