//! The virtual workers: what a task does while it runs, and how its worker tells the node.
//!
//! Owns: the runs that truly go on. Does not know: what the machines believe.

use std::collections::VecDeque;
use std::time::Duration;

use callboard::__internals::engine::message::{Assignment, End};
use callboard::__internals::engine::worker::{Attempts, Tried};
use callboard::__internals::engine::{WorkerId, node::NodeEvent};
use callboard::{Dispatch, RetryPolicy, TaskId};

use crate::args::{Behaviour, decode, life_of, notes, output, serial_of};
use crate::cluster::{Cluster, Ev};
use crate::network::Whose;
use crate::nodes::NodeIn;
use crate::plan::{KINDS, MS, Mode, Time, nanos};

/// How long a worker rests for which no thread could be started.
const NO_THREAD_WAIT: Time = 1000 * MS;

/// A handler at work.
#[derive(Debug)]
pub struct Run {
    pub life: usize,
    pub task: TaskId,
    pub dispatch: Dispatch,
    pub exclusive: bool,
    pub blocking: bool,
    pub started: Time,
    pub stop_asked: bool,
    /// Its attempt has ended for the node, though it goes on.
    pub reported: bool,
    /// Another run has begun while this one's process was frozen: it must not get further.
    pub must_stop: bool,
    /// Its process woke too late for it: all that it may still do is to end.
    pub last_step: bool,
    /// Somebody vouched that its node is dead.
    pub vouched: bool,
    assignment: Assignment,
    retry: RetryPolicy,
    behaviour: Behaviour,
}

impl Run {
    /// Returns which scheduler it is for.
    pub fn whose(&self) -> Whose {
        Whose::of_life(self.life)
    }

    /// Returns which try it is, from 1.
    pub fn attempt(&self) -> u32 {
        self.assignment.attempt
    }

    /// Returns who its args say it is.
    pub fn serial(&self) -> u64 {
        serial_of(&self.assignment.args)
    }
}

/// How often what concerns pipelines has happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pipelined {
    pub given: u64,
    pub taken_back: u64,
    /// Asked back when it had begun.
    pub too_late: u64,
}

/// Why a run's turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Natural,
    TimedOut,
    Stopped,
}

impl Cluster {
    /// Gives a worker an assignment, which it begins, or keeps until it has nothing else to do.
    pub fn give_worker(
        &mut self,
        proc: usize,
        worker: WorkerId,
        assignment: Assignment,
        retry: RetryPolicy,
    ) {
        if !self.procs[proc].runs.contains_key(&worker.0) {
            self.start_run(proc, worker, assignment, retry);
            return;
        }
        self.pipelined.given += 1;
        let (name, dispatch) = (self.procs[proc].name.clone(), assignment.dispatch);
        self.trace.mix((proc, worker.0, dispatch.get()));
        self.say(|| format!("{name} pipelines {dispatch} to {worker}"));
        let pipelines = &mut self.procs[proc].pipelines;
        let chain = pipelines.entry(worker.0).or_default();
        chain.push_back((assignment, retry));
    }

    pub fn take_back(&mut self, proc: usize, worker: WorkerId, dispatch: Dispatch) {
        let it = &mut self.procs[proc];
        let chain = it.pipelines.entry(worker.0).or_default();
        let place = chain.iter().position(|(next, _)| next.dispatch == dispatch);
        let Some((assignment, _)) = place.and_then(|place| chain.remove(place)) else {
            self.pipelined.too_late += 1;
            return;
        };
        self.pipelined.taken_back += 1;
        self.worker_says(proc, NodeEvent::Unstarted { worker, assignment });
    }

    /// Queues what a worker says, which is heard in order and mostly at once.
    fn worker_says(&mut self, proc: usize, event: NodeEvent) {
        let it = &mut self.procs[proc];
        it.told.push_back(event);
        it.unheard += 1;
        if it.told.len() == 1 {
            let pause = match self.rng.u32(..4) {
                0 => self.rng.u64(..200_000),
                _ => 0,
            };
            self.after(pause, Ev::Hear { proc });
        }
    }

    pub fn hear(&mut self, proc: usize) {
        for event in std::mem::take(&mut self.procs[proc].told) {
            self.tell_node(proc, NodeIn::Told(event));
        }
    }

    fn begin_next(&mut self, proc: usize, worker: u32) {
        let pipelines = &mut self.procs[proc].pipelines;
        if let Some((assignment, retry)) = pipelines.get_mut(&worker).and_then(VecDeque::pop_front)
        {
            self.start_run(proc, WorkerId(worker), assignment, retry);
        }
    }

    pub fn start_run(
        &mut self,
        proc: usize,
        worker: WorkerId,
        assignment: Assignment,
        retry: RetryPolicy,
    ) {
        let name = self.procs[proc].name.clone();
        let (task, dispatch) = (assignment.task, assignment.dispatch);
        self.trace.mix((proc, worker.0, dispatch.get()));
        let it = &self.procs[proc];
        let kind = it.kinds.get(usize::from(assignment.kind)).copied();
        let blocks = kind.is_some_and(|kind| KINDS[kind].1);
        if blocks && self.now < it.no_thread_until {
            self.say(|| format!("{name} has no thread for {task}{dispatch} on {worker}"));
            self.rest(proc, worker, assignment);
            return;
        }
        self.say(|| format!("{name} starts {task}{dispatch} on {worker}"));
        let terms = assignment.terms.clone().unwrap_or_default();
        let behaviour = decode(&assignment.args);
        let run = Run {
            life: life_of(serial_of(&assignment.args)),
            task,
            dispatch,
            exclusive: terms.exclusive,
            blocking: blocks,
            started: self.now,
            stop_asked: false,
            reported: false,
            must_stop: false,
            last_step: false,
            vouched: false,
            assignment,
            retry,
            behaviour,
        };
        self.judge_start(proc, worker.0, kind, &run);
        if behaviour.mode != Mode::Endless {
            let span = match behaviour.ms {
                0 => self.rng.u64(10_000..=40_000),
                ms => Time::from(ms) * MS / 100 * self.rng.u64(80..=120),
            };
            self.after(
                span,
                Ev::RunEnds {
                    proc,
                    worker: worker.0,
                    dispatch,
                    how: How::Natural,
                },
            );
        }
        if let Some(timeout) = terms.timeout {
            self.after(
                nanos(timeout),
                Ev::RunEnds {
                    proc,
                    worker: worker.0,
                    dispatch,
                    how: How::TimedOut,
                },
            );
        }
        self.procs[proc].runs.insert(worker.0, run);
        self.tell_note(proc, worker.0);
    }

    /// Has the handler of a run note something, if it does.
    fn tell_note(&mut self, proc: usize, worker: u32) {
        let run = &self.procs[proc].runs[&worker];
        if notes(&run.assignment.args) {
            let event = NodeEvent::Note {
                worker: WorkerId(worker),
                dispatch: run.dispatch,
                text: "here".into(),
            };
            self.worker_says(proc, event);
        }
    }

    /// Gives back what no thread could be started for, and lets its worker rest for a while.
    fn rest(&mut self, proc: usize, worker: WorkerId, assignment: Assignment) {
        self.procs[proc].resting.insert(worker.0);
        self.oracle.threadless += 1;
        self.worker_says(proc, NodeEvent::NoThread { worker, assignment });
        let WorkerId(worker) = worker;
        self.after(NO_THREAD_WAIT, Ev::Rested { proc, worker });
        self.begin_next(proc, worker);
    }

    pub fn rested(&mut self, proc: usize, worker: u32) {
        if self.procs[proc].alive {
            self.procs[proc].resting.remove(&worker);
            // The pause ends on the worker's own thread: one that is blocked says so later.
            if self.procs[proc].stalled.contains(&worker) {
                return;
            }
            let workers = vec![WorkerId(worker)];
            self.worker_says(proc, NodeEvent::Resumed { workers });
        }
    }

    pub fn stop_run(&mut self, proc: usize, worker: WorkerId, dispatch: Dispatch) {
        let name = self.procs[proc].name.clone();
        let Some(run) = self.procs[proc].runs.get_mut(&worker.0) else {
            return;
        };
        if run.dispatch != dispatch {
            return;
        }
        run.stop_asked = true;
        let (task, blocking) = (run.task, run.blocking);
        self.say(|| format!("{name} asks {task}{dispatch} to stop"));
        let worker = worker.0;
        // Whether a blocking handler's worker answers for it at once, or waits for what it says in
        // the end.
        if !blocking || self.rng.u32(..5) == 0 {
            // Dropping a future may take a while. With the turn that asks for it, which may be
            // late, that is less than the fifth of a lease that an exclusive run has left for it,
            // and than the heartbeat that any other has.
            let config = &self.plan.config;
            let left = (nanos(config.lease) / 6).min(nanos(config.heartbeat));
            let left = left.saturating_sub(self.plan.late);
            let pause = if self.rng.u32(..8) == 0 {
                self.rng.u64(..left.max(5 * MS))
            } else {
                self.rng.u64(..5 * MS)
            };
            let how = How::Stopped;
            self.after(
                pause,
                Ev::RunEnds {
                    proc,
                    worker,
                    dispatch,
                    how,
                },
            );
        }
        if blocking && self.rng.u32(..3) == 0 {
            // A polite handler looks at the flag now and then.
            let pause = self.rng.u64(5 * MS..2000 * MS);
            let how = How::Natural;
            self.after(
                pause,
                Ev::RunEnds {
                    proc,
                    worker,
                    dispatch,
                    how,
                },
            );
        }
    }

    /// Ends a run whose turn has come: by itself, by its timeout, or since it was asked to stop.
    pub fn run_ends(&mut self, proc: usize, worker: u32, dispatch: Dispatch, how: How) {
        let Some(run) = self.procs[proc].runs.get(&worker) else {
            return;
        };
        if run.dispatch != dispatch || (run.reported && how != How::Natural) {
            return;
        }
        if !run.blocking && self.procs[proc].stalled.contains(&worker) {
            self.after(
                100 * MS,
                Ev::RunEnds {
                    proc,
                    worker,
                    dispatch,
                    how,
                },
            );
            return;
        }
        let goes_on = run.blocking && how != How::Natural;
        let reported = run.reported;
        let ran = Duration::from_nanos(self.now - run.started);
        if reported {
            self.run_over(proc, worker);
            self.worker_says(
                proc,
                NodeEvent::Freed {
                    worker: WorkerId(worker),
                    dispatch,
                },
            );
            self.begin_next(proc, worker);
            return;
        }
        let end = self.end(proc, worker, how);
        self.tell_note(proc, worker);
        if goes_on {
            if let Some(run) = self.procs[proc].runs.get_mut(&worker) {
                run.reported = true;
            }
        } else {
            self.run_over(proc, worker);
        }
        let event = NodeEvent::Ended {
            worker: WorkerId(worker),
            dispatch,
            end,
            ran,
            overrun: goes_on,
        };
        self.worker_says(proc, event);
        if !goes_on {
            self.begin_next(proc, worker);
        }
    }

    fn run_over(&mut self, proc: usize, worker: u32) {
        if let Some(run) = self.procs[proc].runs.remove(&worker) {
            self.note_run_over(proc, &run);
        }
    }

    /// Returns the verdict on an attempt.
    fn end(&mut self, proc: usize, worker: u32, how: How) -> End {
        let jitter = self.rng.u64(..);
        let wish = self.rng.u32(..6);
        let run = &self.procs[proc].runs[&worker];
        let attempt = run.assignment.attempt;
        let tried = match how {
            How::Stopped => return End::Stopped,
            How::TimedOut => Tried::TimedOut {
                timeout: run
                    .assignment
                    .terms
                    .as_ref()
                    .and_then(|terms| terms.timeout)
                    .unwrap_or_default(),
            },
            How::Natural => match run.behaviour.mode {
                Mode::Permanent => Tried::Permanent {
                    message: "no".to_owned(),
                },
                _ if attempt <= u32::from(run.behaviour.fails) => match wish {
                    0 => Tried::Panicked {
                        place: None,
                        message: "oh".to_owned(),
                    },
                    1 => Tried::Error {
                        message: "later".to_owned(),
                        after: Some(Duration::from_millis(700)),
                    },
                    _ => Tried::Error {
                        message: "not yet".to_owned(),
                        after: None,
                    },
                },
                _ => Tried::Output(output(run.dispatch)),
            },
        };
        self.oracle.on_tried(run, &tried);
        let end = Attempts::new(run.retry, attempt, 1 << 20).verdict(tried, || jitter);
        // Whoever was told to stop and did so says it by an error, most often.
        match end {
            End::Completed(_) => end,
            _ if run.stop_asked => End::Stopped,
            _ => end,
        }
    }

    // Threads that a handler blocks.

    /// Blocks every other worker's thread; what it had not seen yet may be taken back.
    pub fn stall(&mut self, proc: usize, span: Time) {
        if !self.procs[proc].stalled.is_empty() || self.procs[proc].frozen {
            return;
        }
        if self.procs[proc].dirty {
            // What was decided before is done before.
            self.flush_node(proc);
        }
        if !self.procs[proc].alive {
            return;
        }
        let workers: Vec<u32> = (0..8).filter(|worker| worker % 2 == 0).collect();
        self.procs[proc].stalled = workers.clone();
        let event = NodeEvent::Stalled {
            workers: workers.iter().map(|&worker| WorkerId(worker)).collect(),
        };
        self.tell_node(proc, NodeIn::Event(event));
        let fresh: Vec<u32> = self.procs[proc]
            .runs
            .iter()
            .filter(|(worker, run)| {
                worker.is_multiple_of(2)
                    && !run.blocking
                    && !run.reported
                    && !run.stop_asked
                    && self.now - run.started < 1000 * MS
            })
            .map(|(worker, _)| *worker)
            .collect();
        for worker in fresh {
            if self.rng.bool() && self.procs[proc].alive {
                let Some(run) = self.procs[proc].runs.remove(&worker) else {
                    continue;
                };
                self.oracle.on_unstarted(&run);
                let event = NodeEvent::Unstarted {
                    worker: WorkerId(worker),
                    assignment: run.assignment,
                };
                self.worker_says(proc, event);
                let chain = self.procs[proc].pipelines.remove(&worker);
                for (assignment, _) in chain.into_iter().flatten() {
                    let worker = WorkerId(worker);
                    self.worker_says(proc, NodeEvent::Unstarted { worker, assignment });
                }
            }
        }
        self.after(span, Ev::Resumed { proc, workers });
    }

    pub fn resumed(&mut self, proc: usize, workers: Vec<u32>) {
        if !self.procs[proc].alive {
            return;
        }
        self.procs[proc].stalled.clear();
        self.woke(proc);
        let workers = workers.into_iter().map(WorkerId).collect();
        self.tell_node(proc, NodeIn::Event(NodeEvent::Resumed { workers }));
    }
}
