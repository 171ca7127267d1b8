//! G3, G4, G6, G9, G10: whether a run may start.
//!
//! Owns: the judgement of a start. Does not know: what is told of it.
use callboard::__internals::engine::Event;
use callboard::__internals::engine::message::{Report, ToScheduler};
use callboard::task::TaskId;

use super::{Facts, Start};
use crate::args::serial_of;
use crate::cluster::Cluster;
use crate::network::Whose;
use crate::plan::{Family, KINDS, MS, nanos};
use crate::workers::Run;

impl Cluster {
    pub fn judge_start(&mut self, proc: usize, worker: u32, kind: Option<usize>, run: &Run) {
        let it = &self.procs[proc];
        if it.runs.contains_key(&worker) {
            self.fail(
                "G4",
                run.task,
                format!("worker {worker} of {} has a run already", it.name),
            );
            return;
        }
        let most = it.most_workers as usize;
        let whose = run.whose();
        let same = it.runs.values().filter(|it| it.whose() == whose);
        if same.count() + 1 > most {
            self.fail(
                "G4",
                run.task,
                format!("{} runs more than {most} tasks", it.name),
            );
            return;
        }
        if it.stalled.contains(&worker) {
            self.fail(
                "G7",
                run.task,
                format!("it is started on a blocked thread of {}", it.name),
            );
            return;
        }
        self.judge_share_of_start(proc, run);
        if whose == Whose::Neighbours {
            return;
        }
        if let Err((promise, text)) = self.judge_run(proc, kind, run) {
            self.fail(promise, run.task, text);
        }
        if self.plan.family == Family::Order {
            self.judge_order(run.task);
        }
        if self.plan.family.has_no_faults() {
            self.judge_priority(proc, run.task);
        }
        self.judge_overlap(proc, run);
        self.judge_paused_start(run);
        self.judge_limited_start(run);
        if let Some(facts) = self.oracle.tasks[run.life].get_mut(&run.task) {
            facts.starts.push(Start {
                dispatch: run.dispatch,
                attempt: run.attempt(),
                proc,
                at: self.now,
            });
        }
    }

    pub fn judge_run(
        &self,
        proc: usize,
        kind: Option<usize>,
        run: &Run,
    ) -> Result<(), (&'static str, String)> {
        let it = &self.procs[proc];
        let Some(facts) = self.oracle.tasks[run.life].get(&run.task) else {
            return Err(("G1", "it is started, but was never accepted".into()));
        };
        if serial_of(&facts.sent.args) != run.serial() {
            return Err(("G1", "it is started with the args of another".into()));
        }
        let labels = facts.sent.options.as_ref().map(|options| &options.labels);
        let fits = kind.is_some_and(|kind| facts.sent.kind.as_str() == KINDS[kind].0)
            && labels.is_none_or(|labels| labels.iter().all(|label| it.labels.contains(label)));
        if !fits {
            return Err(("G13", format!("{} has not its kind or labels", it.name)));
        }
        let later_here = facts
            .starts
            .iter()
            .any(|start| start.proc == proc && start.dispatch > run.dispatch);
        let last = facts.starts.iter().map(|start| start.dispatch).max();
        // An earlier life's tasks are promised nothing any more, nor what a copy does not know.
        let promised = run.life == self.life && !self.oracle.is_forgotten(run.dispatch);
        if last.filter(|_| promised).is_some_and(|last| {
            run.dispatch == last
                || (run.dispatch < last
                    && (later_here || !self.oracle.superseded.contains(&it.incarnation)))
        }) {
            return Err(("G3", format!("{} starts after {last:?}", run.dispatch)));
        }
        let again = facts
            .starts
            .iter()
            .any(|start| start.attempt == run.attempt());
        let again = again && self.plan.family.loses_no_node();
        if again || self.is_held_elsewhere(facts, run) {
            return Err((
                "G9",
                format!("attempt {} is started again at {}", run.attempt(), it.name),
            ));
        }
        Ok(())
    }

    /// Judges that without faults a worker that the scheduler takes for free is free. Where two
    /// schedulers have the same workers, either may take one before it hears of the other: how
    /// often that may happen is judged at the end.
    pub fn judge_refusals(&mut self, event: &Event) {
        let fleet = self.plan.fleet.as_ref();
        let shares = fleet.is_some_and(|fleet| fleet.max_workers_total.is_some());
        if shares || !self.plan.family.has_no_faults() {
            return;
        }
        let Event::Message {
            message: ToScheduler::Reports(reports),
            ..
        } = event
        else {
            return;
        };
        for report in reports {
            if let Report::Refused { task, reason, .. } = report {
                self.fail(
                    "G4",
                    *task,
                    format!("it was sent where it is refused: {reason:?}"),
                );
            }
        }
    }

    /// Judges that with one worker nothing better has waited for longer than news travels.
    pub fn judge_order(&mut self, started: TaskId) {
        let plan = self.plan.clone();
        // What was prefetched is asked back when it has waited for two round trips.
        let slack = 8 * plan.net.max + 2 * plan.late + 50 * MS;
        let now = self.now;
        let rank = |facts: &Facts| {
            let task = &plan.tasks[facts.plan];
            (-i16::from(task.priority), facts.due(task))
        };
        let tasks = self.oracle.now_tasks();
        let Some(mine) = tasks.get(&started).map(rank) else {
            return;
        };
        let better = tasks.iter().find(|(id, facts)| {
            let (priority, due) = rank(facts);
            // A retry counts from when it is due again, which is judged no closer than that.
            facts.starts.is_empty()
                && facts.told.is_none()
                && !facts.cancel_asked
                && **id != started
                && due + slack < now
                && (priority, due + slack) < (mine.0, mine.1)
        });
        if let Some((id, facts)) = better {
            let text = format!(
                "it starts before {id}, which goes first and has waited long enough: {:?}",
                plan.tasks[facts.plan]
            );
            self.fail("G6", started, text);
        }
    }

    /// Judges that two runs of an exclusive task never make progress at once; nor do two tasks with
    /// one key.
    pub fn judge_overlap(&mut self, proc: usize, run: &Run) {
        let key = self.oracle.tasks[run.life]
            .get(&run.task)
            .and_then(|facts| facts.key().cloned());
        let mut broken = None;
        let (now, lease) = (self.now, nanos(self.plan.config.lease));
        for (other, it) in self.procs.iter_mut().enumerate() {
            let (frozen, name) = (it.frozen, it.name.clone());
            let for_dead = it.passes_for_dead(now, lease);
            for (worker, rival) in &mut it.runs {
                if rival.life != run.life || rival.vouched || for_dead || rival.last_step {
                    continue;
                }
                // A copy that was put in the store's place knows nothing of one of them.
                if self.oracle.forgotten_by(rival.dispatch)
                    != self.oracle.forgotten_by(run.dispatch)
                {
                    continue;
                }
                let same_task = rival.task == run.task;
                let same_key = key.is_some()
                    && self.oracle.tasks[rival.life]
                        .get(&rival.task)
                        .and_then(Facts::key)
                        == key.as_ref();
                if !(same_task && run.exclusive || !same_task && same_key) {
                    continue;
                }
                let still = frozen || it.stalled.contains(worker);
                if still && !rival.blocking {
                    // It must not get further when its process wakes.
                    rival.must_stop = true;
                    continue;
                }
                let promise = if same_task { "G10" } else { "key" };
                broken = Some((
                    promise,
                    format!(
                        "it starts on process {proc} while {}{} runs on {name} (process {other})",
                        rival.task, rival.dispatch
                    ),
                ));
            }
        }
        if let Some((promise, text)) = broken {
            self.fail(promise, run.task, text);
        }
    }

    /// Takes in that a process has woken and handled what was waiting for it.
    pub fn woke(&mut self, proc: usize) {
        for run in self.procs[proc].runs.values_mut() {
            run.last_step |= run.stop_asked && !run.blocking;
        }
        let for_dead = self.procs[proc].passes_for_dead(self.now, nanos(self.plan.config.lease));
        let late = self.procs[proc]
            .runs
            .values()
            .find(|run| run.must_stop && !run.stop_asked && !run.vouched && !for_dead)
            .map(|run| (run.task, run.dispatch));
        if let Some((task, dispatch)) = late {
            self.fail(
                "G10",
                task,
                format!("{dispatch} goes on after its process woke, though another run has begun"),
            );
        }
    }
}
