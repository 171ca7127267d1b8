//! What the tests of several promises begin with and look at.
//!
//! Owns: nodes that are large or fast, and views of a board. Does not know: what must be true.

use std::time::Duration;

use super::{Board, STOPS, ended};
use crate::engine::message::{Assignment, Beat, End, RefusedBy, Report, ToScheduler};
use crate::engine::{LinkId, Reach};
use crate::payload::Payload;
use crate::stats::Reason;
use crate::task::{Dispatch, TaskId};

pub(super) fn done() -> End {
    End::Completed(Payload::new())
}

impl Board {
    /// Lets a node say that it has no worker for a run.
    pub(super) fn refuse(&mut self, link: LinkId, run: &Assignment) {
        self.reports += 1;
        let refused = Report::Refused {
            seq: self.reports,
            task: run.task,
            dispatch: run.dispatch,
            reason: RefusedBy::NoWorker,
        };
        self.say(link, ToScheduler::Reports(vec![refused]));
    }

    /// Lets a node give back a run that it was asked for.
    pub(super) fn give_back(&mut self, link: LinkId, task: TaskId, dispatch: Dispatch) {
        self.reports += 1;
        let returned = Report::Returned {
            seq: self.reports,
            task,
            dispatch,
        };
        self.say(link, ToScheduler::Reports(vec![returned]));
    }

    /// Begins with a node of two workers to which tasks are prefetched: its runs are so short that
    /// the way is longer.
    pub(super) fn with_fast_node() -> (Self, LinkId) {
        let mut board = Self::new();
        board.machine.config.max_prefetch = 16;
        let link = board.join("first", 1, Vec::new());
        for _ in 0..20 {
            let task = board.submit(STOPS);
            let (link, run) = board.assignment(task);
            board.reports += 1;
            let report = ended(board.reports, &run, done(), Duration::from_micros(1));
            board.say(link, ToScheduler::Reports(vec![report]));
        }
        (board, link)
    }

    /// Adds a node in the scheduler's own process; the number is not to be used again.
    pub(super) fn add_own(&mut self, number: u64) -> LinkId {
        let own = self.machine.add_node(self.now, "own".into(), Reach::Local);
        let hello = self.hello("own", 1000 + number);
        let link = LinkId(9000 + number);
        self.dialled(own.expect("it is free"), link, hello);
        link
    }

    /// Joins a node of many workers.
    pub(super) fn join_large(&mut self, name: &str, incarnation: u64) -> LinkId {
        let mut hello = self.hello(name, incarnation);
        hello.workers = 20;
        self.join_by(hello, Vec::new())
    }

    /// Beats as a process once a second, so many times, which proves that it lives.
    pub(super) fn beats(&mut self, link: LinkId, times: u64) {
        for number in 1..=times {
            self.wait(Duration::from_secs(1));
            let beat = Beat {
                number,
                answered: number - 1,
                round_trip: None,
            };
            self.say(link, ToScheduler::Beat(beat));
            assert_eq!(self.machine.check(), Ok(()));
        }
    }

    /// Returns the tasks that were sent to nodes, in order.
    pub(super) fn placed(&self) -> Vec<TaskId> {
        self.assigned.iter().map(|(_, run)| run.task).collect()
    }

    /// Returns what a task waits for.
    pub(super) fn why(&self, task: TaskId) -> Option<Reason> {
        self.machine.explain(self.now, task).map(|why| why.reason)
    }
}
