//! G7: what a task that ends its nodes costs, and what becomes of those that are lost with it.
//!
//! Owns: a fleet in virtual time, whose nodes end when a poisoned task has run there for a while.
//! Does not know: what the machine makes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Board, STOPS, ended};
use crate::config::SchedulerConfig;
use crate::engine::message::{Assignment, End, NodeHello, ToScheduler};
use crate::engine::{LinkId, Timestamp};
use crate::payload::Payload;
use crate::status::{Cause, Outcome};
use crate::task::TaskId;

/// What a task takes.
const RUN: Duration = Duration::from_secs(10);
/// What a poisoned one takes to end its node.
const KILL: Duration = Duration::from_secs(1);

/// What it takes until another process stands where one has ended.
const BACK: Duration = Duration::from_millis(100);

struct Member {
    incarnation: u64,
    link: LinkId,
    /// What runs there, and since when.
    runs: Vec<(Assignment, Timestamp)>,
}

struct Fleet {
    board: Board,
    workers: u32,
    members: Vec<Member>,
    poisoned: BTreeSet<TaskId>,
    losses: usize,
    since: Timestamp,
}

impl Fleet {
    fn new(nodes: usize, workers: u32) -> Self {
        let mut board = Board::new();
        // Nobody beats here, and a name is free again soon after its process has ended.
        board.machine.config.lease = SchedulerConfig::MAX_LEASE;
        board.machine.config.heartbeat = BACK / 2;
        let since = board.now;
        let mut fleet = Self {
            board,
            workers,
            members: Vec::new(),
            poisoned: BTreeSet::new(),
            losses: 0,
            since,
        };
        for index in 0..nodes {
            let link = fleet.join(index, 1);
            fleet.members.push(Member {
                incarnation: 1,
                link,
                runs: Vec::new(),
            });
        }
        fleet
    }

    fn join(&mut self, index: usize, incarnation: u64) -> LinkId {
        let hello = NodeHello {
            workers: self.workers,
            ..self.board.hello(&format!("node{index}"), incarnation)
        };
        self.board.join_by(hello, Vec::new())
    }

    fn submit(&mut self, tasks: usize, poisoned: usize) {
        let ids: Vec<_> = (0..tasks).map(|_| self.board.submit(STOPS)).collect();
        // Neither the first ones nor the last ones.
        let from = (tasks - poisoned) / 2;
        self.poisoned.extend(&ids[from..from + poisoned]);
        self.take_in();
    }

    /// Starts what was assigned.
    fn take_in(&mut self) {
        for (link, run) in std::mem::take(&mut self.board.assigned) {
            let member = self.members.iter_mut().find(|it| it.link == link);
            let member = member.expect("what is assigned goes to a link that is up");
            member.runs.push((run, self.board.now));
        }
    }

    /// Ends the process of a node; another comes.
    fn kill(&mut self, index: usize) {
        self.losses += 1;
        self.members[index].runs.clear();
        self.board.cut(self.members[index].link);
        self.board.wait(BACK);
        let incarnation = self.members[index].incarnation + 1;
        let link = self.join(index, incarnation);
        self.members[index].incarnation = incarnation;
        self.members[index].link = link;
        self.take_in();
    }

    /// Lets the next thing happen. Returns whether there was one.
    fn step(&mut self) -> bool {
        let due = |(run, since): &(Assignment, Timestamp)| {
            let kills = self.poisoned.contains(&run.task);
            (*since + if kills { KILL } else { RUN }, !kills)
        };
        let members = self.members.iter().enumerate();
        let all = members.flat_map(|(index, it)| it.runs.iter().map(move |run| (due(run), index)));
        let Some(((at, ends), index)) = all.min() else {
            return false;
        };
        self.board.wait(at.since(self.board.now));
        if !ends {
            self.kill(index);
            return true;
        }
        let (now, runs) = (self.board.now, &mut self.members[index].runs);
        let over = runs.extract_if(.., |(_, since)| *since + RUN <= now);
        let reports = over.map(|(run, _)| {
            self.board.reports += 1;
            let end = End::Completed(Payload::new());
            ended(self.board.reports, &run, end, RUN)
        });
        let reports = reports.collect();
        let link = self.members[index].link;
        self.board.say(link, ToScheduler::Reports(reports));
        self.take_in();
        true
    }

    /// Runs it to its end, checks every ending, and returns how long it took.
    fn finish(mut self, tasks: usize, what: &str) -> (usize, Duration) {
        while self.step() {
            assert!(self.losses < 200, "{what}: it goes on and on");
        }
        assert_eq!(self.board.machine.check(), Ok(()), "{what}");
        assert_eq!(
            self.board.told.len(),
            tasks,
            "{what}: all end; closed {:?}",
            self.board.closed
        );
        for status in &self.board.told {
            match &status.outcome {
                Outcome::Completed(_) if !self.poisoned.contains(&status.id) => {}
                Outcome::Failed(failure)
                    if failure.cause == Cause::NodeLost && self.poisoned.contains(&status.id) => {}
                other => panic!(
                    "{what}: {} ended so after {} losses: {other}",
                    status.id, self.losses
                ),
            }
        }
        (self.losses, self.board.now.since(self.since))
    }
}

#[test]
fn g7_poisoned_tasks_cost_few_nodes_and_no_innocent_task() {
    let max_reroutes = SchedulerConfig::default().max_reroutes as usize;
    for workers in [1, 2, 10, 100, 1000_u32] {
        for nodes in [1, 4] {
            for poisoned in (1..=3).filter(|&count| count <= workers as usize) {
                let what = format!("{poisoned} of {workers} on {nodes}");
                let mut fleet = Fleet::new(nodes, workers);
                fleet.submit(workers as usize, poisoned);
                let (losses, _) = fleet.finish(workers as usize, &what);
                // So often a group is halved until a task is alone.
                let halvings = workers.next_power_of_two().ilog2() as usize;
                let most = poisoned * (max_reroutes + halvings.max(1));
                assert!(losses <= most, "{what}: {losses} nodes, more than {most}");
            }
        }
    }
}

#[test]
fn g7_a_hundred_tasks_whose_node_dies_twice_without_poison_are_soon_done() {
    for nodes in [1, 2, 4] {
        let mut fleet = Fleet::new(nodes, 100);
        fleet.submit(100 * nodes, 0);
        for _ in 0..2 {
            fleet.board.wait(KILL);
            fleet.kill(0);
        }
        let (_, took) = fleet.finish(100 * nodes, "no poison");
        assert!(took <= 3 * RUN, "{nodes} nodes: it took {took:?}");
    }
}

#[test]
fn g7_a_poisoned_task_among_others_that_keep_coming_costs_few_nodes_and_none_of_them() {
    for nodes in [1, 4] {
        let mut fleet = Fleet::new(nodes, 20);
        fleet.submit(10, 1);
        let mut tasks = 10;
        while tasks < 300 && fleet.step() {
            fleet.submit(10, 0);
            tasks += 10;
        }
        let (losses, _) = fleet.finish(tasks, "others keep coming");
        assert!(losses <= 12, "{nodes} nodes: {losses}");
    }
}
