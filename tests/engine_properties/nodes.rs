//! The node side of the model: nodes that do at once what they are told.
//!
//! Owns: their runs, reports and leases. Does not know: what the scheduler should have told them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use callboard::__internals::engine::message::{
    Assignment, Beat, End, HeldRun, HeldState, Holding, KindOffer, NodeHello, RefusedBy, Report,
    ToNode, ToScheduler,
};
use callboard::__internals::engine::{Event, Incarnation, LinkId, Origin, Timestamp};
use callboard::Payload;
use callboard::config::SchedulerConfig;
use callboard::status::{Cause, Failure};
use callboard::task::{Dispatch, TaskId};

use crate::world::World;

/// A node that does at once what it is told.
pub struct Fake {
    pub name: String,
    pub incarnation: Incarnation,
    pub link: Option<LinkId>,
    pub up: bool,
    pub workers: u32,
    pub running: BTreeMap<Dispatch, (TaskId, u32)>,
    pub prefetched: VecDeque<Assignment>,
    pub kept: Vec<Report>,
    pub seq: u64,
    pub hellos: u64,
    pub beat: u64,
    pub answered: u64,
    /// When its lease began.
    pub lease_from: Timestamp,
}

impl Fake {
    pub fn new(index: usize, incarnation: u64) -> Self {
        Self {
            name: format!("node{index}"),
            incarnation: Incarnation(incarnation),
            link: None,
            up: false,
            workers: 2,
            running: BTreeMap::new(),
            prefetched: VecDeque::new(),
            kept: Vec::new(),
            seq: 0,
            hellos: 0,
            beat: 0,
            answered: 0,
            lease_from: Timestamp(0),
        }
    }

    pub fn number(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

impl World {
    pub fn connect(&mut self, node: usize) {
        if self.nodes[node].link.is_some() {
            return;
        }
        self.links += 1;
        let link = LinkId(self.links);
        self.nodes[node].link = Some(link);
        self.machine.handle(
            self.now,
            Event::LinkOpened {
                link,
                origin: Origin::Came("1.2.3.4".to_owned()),
                peer: String::new(),
            },
        );
    }

    pub fn disconnect(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.up = false;
        if let Some(link) = it.link.take() {
            let reason = "cut".to_owned();
            self.machine
                .handle(self.now, Event::LinkClosed { link, reason });
        }
    }

    pub fn beat(&mut self) {
        for it in &mut self.nodes {
            if let (Some(link), true) = (it.link, it.up) {
                it.beat += 1;
                let beat = Beat {
                    number: it.beat,
                    answered: it.answered,
                    round_trip: None,
                };
                let message = ToScheduler::Beat(beat);
                self.events.push_back(Event::Message { link, message });
            }
        }
    }

    pub fn end(&mut self, node: usize, which: usize, how: u8) {
        let it = &mut self.nodes[node];
        let Some((&dispatch, &(task, attempt))) = it.running.iter().nth(which) else {
            return;
        };
        it.running.remove(&dispatch);
        let failure = Failure::new(Cause::Error, "no");
        let end = match how {
            0 if attempt < 3 => End::Again {
                after: Duration::from_millis(500),
                failure: Box::new(failure),
            },
            1 => End::Failed(Box::new(failure)),
            _ => End::Completed(Payload::from(&dispatch.get().to_le_bytes())),
        };
        let again = matches!(end, End::Again { .. });
        let seq = it.number();
        let report = Report::Ended {
            seq,
            task,
            dispatch,
            end,
            ran: Duration::from_millis(5),
            overrun: false,
        };
        self.report(node, report);
        self.pump(node);
        if again && self.nodes[node].up {
            let now = self.now;
            self.tasks.get_mut(&task).unwrap().due = now + Duration::from_millis(500);
        } else if again {
            self.tasks.get_mut(&task).unwrap().troubled = true;
        }
    }

    pub fn report(&mut self, node: usize, report: Report) {
        let it = &mut self.nodes[node];
        if report.seq().is_some() {
            it.kept.push(report.clone());
        }
        if let (Some(link), true) = (it.link, it.up) {
            let message = ToScheduler::Reports(vec![report]);
            self.events.push_back(Event::Message { link, message });
        }
    }

    pub fn start(&mut self, node: usize, assignment: &Assignment) {
        let (task, dispatch) = (assignment.task, assignment.dispatch);
        let exclusive_elsewhere = self
            .nodes
            .iter()
            .any(|it| it.running.values().any(|(other, _)| *other == task));
        let known = self
            .tasks
            .get_mut(&task)
            .expect("g1: only accepted tasks start");
        // A node that is cut off starts what waits there until its lease ends, though the task may
        // have gone elsewhere since.
        assert!(
            known.last < Some(dispatch) || !self.nodes[node].up,
            "g3: {task}{dispatch} starts after {:?}",
            known.last
        );
        assert!(
            !(known.exclusive && exclusive_elsewhere),
            "g10: {task} runs twice"
        );
        known.last = known.last.max(Some(dispatch));
        let it = &mut self.nodes[node];
        it.running.insert(dispatch, (task, assignment.attempt));
        self.fresh.insert(task, self.now);
    }

    /// Starts what waits at a node while workers are free: by priority, then in order of arrival.
    pub fn pump(&mut self, node: usize) {
        loop {
            let it = &mut self.nodes[node];
            if it.running.len() >= it.workers as usize || it.prefetched.is_empty() {
                return;
            }
            let priority = |it: &Assignment| it.terms.as_ref().map_or(0, |terms| terms.priority);
            let best = it.prefetched.iter().map(priority).max().unwrap();
            let index = it
                .prefetched
                .iter()
                .position(|it| priority(it) == best)
                .unwrap();
            let assignment = it.prefetched.remove(index).unwrap();
            self.start(node, &assignment);
            let (task, dispatch) = (assignment.task, assignment.dispatch);
            self.report(node, Report::Started { task, dispatch });
        }
    }

    pub fn told(&mut self, node: usize, link: LinkId, message: ToNode) {
        match message {
            ToNode::Hello(_) => self.greet(node, link),
            ToNode::Welcome(welcome) => {
                let it = &mut self.nodes[node];
                it.up = true;
                it.lease_from = self.now;
                it.beat = 0;
                it.answered = 0;
                it.kept
                    .retain(|report| report.seq() > Some(welcome.acknowledged));
                if let Some(workers) = welcome.workers {
                    it.workers = workers;
                }
                self.stop(node, &welcome.stop);
                self.pump(node);
            }
            ToNode::Refuse(_) => {}
            ToNode::Assign(assignments) => {
                for assignment in assignments {
                    self.assigned(node, assignment);
                }
            }
            ToNode::Retract(dispatches) => {
                for dispatch in dispatches {
                    let it = &mut self.nodes[node];
                    if let Some(index) = it.prefetched.iter().position(|it| it.dispatch == dispatch)
                    {
                        let task = it.prefetched.remove(index).unwrap().task;
                        let seq = it.number();
                        self.report(
                            node,
                            Report::Returned {
                                seq,
                                task,
                                dispatch,
                            },
                        );
                    }
                }
            }
            ToNode::Cancel(dispatches) => self.stop(node, &dispatches),
            ToNode::Acknowledge(through) => {
                self.nodes[node]
                    .kept
                    .retain(|report| report.seq() > Some(through));
            }
            ToNode::Answer(number) => {
                let it = &mut self.nodes[node];
                it.answered = it.answered.max(number);
                it.lease_from = self.now;
            }
            ToNode::Workers(workers) => {
                self.nodes[node].workers = workers;
                self.pump(node);
                let it = &self.nodes[node];
                if it.running.len() < it.workers as usize {
                    self.report(node, Report::Ready);
                }
            }
            ToNode::Retry(_) | ToNode::Wants(_) | ToNode::Drain | ToNode::Leave | ToNode::End => {}
        }
    }

    pub fn greet(&mut self, node: usize, link: LinkId) {
        let it = &mut self.nodes[node];
        it.hellos += 1;
        let hello = NodeHello {
            number: it.hellos,
            kinds: vec![KindOffer {
                kind: "work".to_owned(),
                blocking: false,
            }],
            workers: it.workers,
            ..NodeHello::new(it.name.clone(), it.incarnation)
        };
        let held = |task, dispatch, state| HeldRun {
            task,
            dispatch,
            state,
        };
        let runs = it
            .running
            .iter()
            .map(|(dispatch, (task, _))| held(*task, *dispatch, HeldState::Running))
            .chain(
                it.prefetched
                    .iter()
                    .map(|it| held(it.task, it.dispatch, HeldState::Prefetched)),
            )
            .collect();
        let holding = Holding {
            runs,
            reports: it.kept.clone(),
            last: true,
        };
        for message in [
            ToScheduler::Hello(Box::new(hello)),
            ToScheduler::Holding(holding),
        ] {
            self.events.push_back(Event::Message { link, message });
        }
    }

    pub fn assigned(&mut self, node: usize, assignment: Assignment) {
        let it = &mut self.nodes[node];
        if it.running.len() < it.workers as usize {
            self.start(node, &assignment);
            if assignment.prefetched {
                let (task, dispatch) = (assignment.task, assignment.dispatch);
                self.report(node, Report::Started { task, dispatch });
            }
        } else if assignment.prefetched {
            let task = self.tasks.get_mut(&assignment.task).unwrap();
            task.ahead_at = self.now;
            it.prefetched.push_back(assignment);
        } else {
            let seq = it.number();
            let report = Report::Refused {
                seq,
                task: assignment.task,
                dispatch: assignment.dispatch,
                reason: RefusedBy::NoWorker,
            };
            self.report(node, report);
        }
    }

    /// Drops what is exclusive at four fifths of a node's lease, at its end everything.
    pub fn expire(&mut self, node: usize) {
        let lease = SchedulerConfig::default().lease;
        let it = &mut self.nodes[node];
        let passed = self.now.since(it.lease_from);
        if passed < lease / 5 * 4 {
            return;
        }
        let all = passed >= lease;
        let tasks = &self.tasks;
        let dropped: Vec<_> = it
            .running
            .iter()
            .filter(|(_, (task, _))| all || tasks[task].exclusive)
            .map(|(dispatch, (task, _))| (*task, *dispatch))
            .collect();
        let returned = if all {
            std::mem::take(&mut it.prefetched)
        } else {
            VecDeque::new()
        };
        for (task, dispatch) in dropped {
            let it = &mut self.nodes[node];
            it.running.remove(&dispatch);
            let seq = it.number();
            let report = Report::Ended {
                seq,
                task,
                dispatch,
                end: End::Dropped,
                ran: Duration::from_millis(1),
                overrun: false,
            };
            self.report(node, report);
        }
        for assignment in returned {
            let (task, dispatch) = (assignment.task, assignment.dispatch);
            let seq = self.nodes[node].number();
            self.report(
                node,
                Report::Returned {
                    seq,
                    task,
                    dispatch,
                },
            );
        }
        if !all {
            self.pump(node);
        }
    }

    pub fn stop(&mut self, node: usize, dispatches: &[Dispatch]) {
        for &dispatch in dispatches {
            let it = &mut self.nodes[node];
            let prefetched = it.prefetched.iter().position(|it| it.dispatch == dispatch);
            let task = it
                .running
                .remove(&dispatch)
                .map(|(task, _)| task)
                .or_else(|| {
                    prefetched
                        .and_then(|index| it.prefetched.remove(index))
                        .map(|it| it.task)
                });
            if let Some(task) = task {
                let seq = it.number();
                let report = Report::Ended {
                    seq,
                    task,
                    dispatch,
                    end: End::Stopped,
                    ran: Duration::from_millis(1),
                    overrun: false,
                };
                self.report(node, report);
            }
        }
        self.pump(node);
    }
}
