//! How the actor answers a search: one step a message, so that all else comes in between.
//!
//! Owns: the way from the message to the machine. Does not know: how many tasks a step looks at.

use actix::Handler;

use super::SchedulerActor;
use crate::actors::finding::Find;
use crate::error::Stopped;
use crate::search::Step;

impl Handler<Find> for SchedulerActor {
    type Result = Result<Step, Stopped>;

    fn handle(&mut self, find: Find, _: &mut Self::Context) -> Self::Result {
        self.with(|core, now| core.machine.look_for(now, &find.search()))
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
