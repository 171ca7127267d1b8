//! How the actor answers a search: one step a message, so that all else comes in between.
//!
//! Owns: the way from the message to the machine, and how long a search rests in between. Does not
//! know: how many tasks a step looks at.

use std::time::Duration;

use actix::{Handler, ResponseFuture};

use super::SchedulerActor;
use crate::actors::finding::Find;
use crate::error::Stopped;
use crate::search::Step;

/// After how many tasks a search rests, and how long. Without a rest a search among a million keeps
/// this thread and the asker's busy, and what is handed in meanwhile takes 1.2 to 1.5 times as long
/// (p99, two cores); with it a search looks at two million tasks a second.
const RESTS_AFTER: u64 = 2048;
const REST: Duration = Duration::from_millis(1);

impl Handler<Find> for SchedulerActor {
    type Result = ResponseFuture<Result<Step, Stopped>>;

    fn handle(&mut self, find: Find, _: &mut Self::Context) -> Self::Result {
        let step = self.with(|core, now| core.machine.look_for(now, &find.search()));
        let rests = find.looked > 0 && find.looked.is_multiple_of(RESTS_AFTER);
        Box::pin(async move {
            if rests {
                actix::clock::sleep(REST).await;
            }
            step
        })
    }
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
