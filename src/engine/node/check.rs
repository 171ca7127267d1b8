//! The invariants of a node.
//!
//! Owns: what must hold after every event. Does not know: how it comes about.

use super::NodeMachine;
use super::state::{LinkStage, Whereabouts};
use super::workers::Owner;

impl NodeMachine {
    /// Checks every invariant of the state; the simulation calls it after each step.
    ///
    /// # Errors
    ///
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        self.workers.check()?;
        self.prefetched.check()?;
        self.check_pipelines()?;
        self.kept.check()?;
        self.lease.check()?;
        self.check_held()?;
        self.check_links()?;
        if !self.prefetched.is_empty() && self.can_start() {
            return Err("G5: an assignment waits beside a free worker".to_owned());
        }
        if self.takes_nothing() && !self.prefetched.is_empty() {
            return Err("an assignment waits at a node that takes nothing".to_owned());
        }
        if self.session.is_none() && !(self.held.is_empty() && self.kept.is_empty()) {
            return Err("something is held, and no scheduler served".to_owned());
        }
        Ok(())
    }

    fn check_held(&self) -> Result<(), String> {
        let pipelined = self.pipelines.iter();
        let pipelined = pipelined.filter(|(_, pipelined)| pipelined.run.owner == Owner::Session);
        let mut held = self.prefetched.len() + pipelined.count();
        for (spot, waiting) in self.prefetched.iter() {
            let dispatch = waiting.assignment.dispatch;
            if self.held.get(&dispatch) != Some(&Whereabouts::Prefetched(spot)) {
                return Err(format!("{dispatch} waits and is not found"));
            }
        }
        for (worker, run) in self.workers.iter() {
            let dispatch = run.dispatch;
            if run.owner != Owner::Session {
                continue;
            }
            held += 1;
            if self.held.get(&dispatch) != Some(&Whereabouts::Worker(worker)) {
                return Err(format!("{dispatch} runs on {worker} and is not found"));
            }
        }
        if held == self.held.len() {
            Ok(())
        } else {
            Err(format!("{} are noted as held, {held} are", self.held.len()))
        }
    }

    fn check_links(&self) -> Result<(), String> {
        let Some(current) = self.current else {
            return match self.outbox.is_empty() {
                true => Ok(()),
                false => Err("reports are to be sent without a link".to_owned()),
            };
        };
        if !self.links.contains_key(&current.link) {
            return Err(format!("{} counts and is closed", current.link));
        }
        if self.session.is_none() {
            return Err(format!(
                "{} counts and no scheduler is served",
                current.link
            ));
        }
        if current.stage != LinkStage::Up && !self.outbox.is_empty() {
            return Err("reports are to be sent before the welcome".to_owned());
        }
        Ok(())
    }
}
