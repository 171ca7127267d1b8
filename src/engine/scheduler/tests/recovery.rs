//! A term that goes on from what the one before has stored: what it knows at once.

use std::time::Duration;

use super::common::done;
use super::{BLOCKS, Board, STOPS};
use crate::config::SchedulerConfig;
use crate::engine::message::{Assignment, End, HeldRun, HeldState};
use crate::engine::record::Claim;
use crate::engine::scheduler::{SchedulerMachine, Unrecoverable};
use crate::engine::{Audience, ClientId, Event, LinkId, SchedulerId, Submission};
use crate::error::Refusal;
use crate::payload::Payload;
use crate::stats::NodeState;
use crate::status::{CancelAnswer, Cause, Failure, Outcome};
use crate::task::{Due, Options, TaskId};
use crate::testing::{Checks, DrivenScheduler};

const SECOND: Duration = Duration::from_secs(1);
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// The longest wait for nodes that were up.
pub(super) const RESYNC: Duration = Duration::from_secs(5);

impl Board {
    /// Kills the process, and starts another that goes on from what was stored.
    pub(super) fn restart(&mut self) {
        self.restart_with(Duration::ZERO, |_| {});
    }

    /// Does the same with other settings, and with a wall clock that was set back.
    pub(super) fn restart_with(
        &mut self,
        set_back: Duration,
        set: impl FnOnce(&mut SchedulerConfig),
    ) {
        let id = self.machine.id;
        let machine = self.next_term(set_back, id, set);
        self.go_on(machine.expect("what was stored fits the settings"));
    }

    fn go_on(&mut self, machine: SchedulerMachine) {
        self.machine = DrivenScheduler::new(machine, Checks::EachStep);
        self.machine.set_client(self.now, Some(ClientId(1)));
        self.told.clear();
        self.closed.clear();
        self.assigned.clear();
    }

    fn next_term(
        &mut self,
        set_back: Duration,
        id: SchedulerId,
        set: impl FnOnce(&mut SchedulerConfig),
    ) -> Result<SchedulerMachine, Unrecoverable> {
        let mut config = self.machine.config.clone();
        set(&mut config);
        let before = self.machine.id;
        let mut term = self.machine.term;
        term.0 += 1;
        let store = self.store();
        store.under_way = None;
        store.by_hand = false;
        let found = store.log.found().expect("what is kept can be read");
        let claim = Claim {
            scheduler_id: id,
            term,
            copied_from: (id != before).then_some(before),
            last: found.ledger.last().map_or(0, |last| last.batch),
        };
        let wall = self.now - set_back;
        SchedulerMachine::recover("board".into(), config, found, claim, wall, self.now)
    }

    pub(super) fn submit_keyed(&mut self, kind: &str, key: &str) -> TaskId {
        self.submit_with(kind, |it| {
            it.options = Some(Box::new(Options {
                key: Some(key.into()),
                ..Options::default()
            }));
        })
    }

    /// Returns why a task with this key is refused, if it is.
    pub(super) fn refused_key(&mut self, key: &str) -> Option<Refusal> {
        let submission = Submission {
            kind: STOPS.into(),
            args: Payload::new(),
            options: Some(Box::new(Options {
                key: Some(key.into()),
                ..Options::default()
            })),
            audience: Audience::Current,
            watcher: None,
        };
        let submitted = self.machine.submit(self.now, submission);
        self.settle_down();
        submitted.err().map(|refused| refused.refusal)
    }

    fn running(&self) -> usize {
        self.machine.stats(self.now).running
    }

    fn held_tasks(&self) -> usize {
        self.machine.stats(self.now).held
    }
}

pub(super) fn holds(run: &Assignment) -> Vec<HeldRun> {
    vec![HeldRun {
        task: run.task,
        dispatch: run.dispatch,
        state: HeldState::Running,
    }]
}

/// Makes a scheduler with a store and the joined node "first", of which all is stored.
pub(super) fn stored() -> (Board, LinkId) {
    let mut board = Board::stored(|_| {});
    let link = board.join("first", 1, Vec::new());
    board.wait(SECOND);
    (board, link)
}

/// Makes a task with these options that runs on "first"; all of that is stored.
fn running(kind: &str, options: Options) -> (Board, Assignment) {
    let (mut board, _) = stored();
    let task = board.submit_with(kind, |it| it.options = Some(Box::new(options)));
    let (_, run) = board.assignment(task);
    board.wait(SECOND);
    (board, run)
}

#[test]
fn g1_a_task_whose_acceptance_is_stored_goes_on_after_a_kill() {
    let mut board = Board::stored(|_| {});
    let task = board.submit(STOPS);
    board.restart();
    board.join("first", 1, Vec::new());
    board.assignment(task);
    board.end(task, done(), false);
    assert_eq!(board.told.len(), 1);
}

#[test]
fn g1_an_ending_that_was_not_handled_is_given_again_and_marked() {
    let (mut board, _) = stored();
    let task = board.submit(STOPS);
    board.end(task, done(), false);
    assert!(!board.told[0].is_given_again());
    for _ in 0..2 {
        board.restart();
        board.settle_down();
        assert_eq!(board.told.len(), 1);
        assert!(board.told[0].is_given_again() && board.told[0].id == task);
        assert_eq!(
            board.machine.outbox.redelivered, 1,
            "each start counts its own"
        );
        board.wait(SECOND);
    }
    board.event(Event::Confirmed {
        client: ClientId(1),
        delivery: 1,
        handled: 0..1,
    });
    board.wait(SECOND);
    board.restart();
    board.settle_down();
    assert!(board.told.is_empty() && board.machine.is_idle());
}

#[test]
fn g9_a_restart_within_the_lease_reruns_nothing_and_loses_no_result() {
    let (mut board, run) = running(STOPS, Options::default());
    board.restart();
    assert_eq!(board.running(), 1);
    board.join("first", 1, holds(&run));
    board.wait(RESYNC);
    assert!(board.assigned.is_empty());
    board.return_with(&run, done());
    assert_eq!(board.told.len(), 1);
    assert_eq!(board.machine.stats(board.now).totals.rerouted, 0);
}

#[test]
fn g1_a_result_that_was_not_stored_is_told_again_and_counts_once() {
    let (mut board, run) = running(STOPS, Options::default());
    board.by_hand();
    board.end(run.task, done(), false);
    board.restart();
    board.return_with(&run, done());
    assert_eq!(board.told.len(), 1);
    // It was stored now, and not acknowledged.
    board.restart();
    board.return_with(&run, done());
    assert_eq!(board.told.len(), 1, "that of before, given again");
    assert_eq!(board.machine.stats(board.now).totals.stale_reports, 1);
}

#[test]
fn a_failed_attempt_that_is_told_twice_around_a_kill_counts_once() {
    let (mut board, run) = running(STOPS, Options::default());
    let again = || End::Again {
        after: 3 * SECOND,
        failure: Box::new(Failure::new(Cause::Error, "no")),
    };
    board.end(run.task, again(), false);
    board.restart();
    board.return_with(&run, again());
    let backoff = board.machine.stats(board.now).waiting_retries;
    assert_eq!(backoff, 1);
    board.wait(4 * SECOND);
    let (_, second) = board.assignment(run.task);
    assert_eq!(second.attempt, 2);
    assert!(second.dispatch > run.dispatch, "G3");
}

#[test]
fn g10_an_exclusive_task_waits_for_the_lease_of_a_node_that_is_cut_off() {
    let exclusive = Options {
        exclusive: true,
        ..Options::default()
    };
    let (mut board, run) = running(STOPS, exclusive);
    board.restart();
    board.wait(LEASE - SECOND);
    board.join("second", 2, Vec::new());
    assert!(board.assigned.is_empty());
    board.wait(3 * SECOND);
    let (_, second) = board.assignment(run.task);
    assert!(second.dispatch > run.dispatch);
}

#[test]
fn g10_a_restart_that_shortens_the_lease_waits_for_the_longer_one() {
    let mut board = Board::stored(|config| config.lease = 4 * LEASE);
    board.join("first", 1, Vec::new());
    let task = board.submit_exclusive(STOPS);
    board.assignment(task);
    board.wait(SECOND);
    for _ in 0..2 {
        board.restart_with(Duration::ZERO, |config| config.lease = LEASE);
        board.wait(SECOND);
    }
    board.wait(4 * LEASE - 2 * SECOND);
    board.join("second", 2, Vec::new());
    assert!(board.assigned.is_empty() && board.held_tasks() == 1);
    board.wait(2 * SECOND);
    board.assignment(task);
}

#[test]
fn g10_a_blocking_exclusive_run_of_a_node_that_is_not_back_outlasts_every_lease() {
    let exclusive = Options {
        exclusive: true,
        ..Options::default()
    };
    let (mut board, run) = running(BLOCKS, exclusive);
    for _ in 0..3 {
        board.restart();
        board.join("second", 2, Vec::new());
        board.wait(4 * LEASE);
        assert!(board.assigned.is_empty());
    }
    assert_eq!(board.held_tasks(), 1);
    // It is heard at last.
    board.return_with(&run, End::Stopped);
    board.assignment(run.task);
}

#[test]
fn g10_a_replaced_process_that_comes_back_first_is_refused() {
    let (mut board, _) = stored();
    let task = board.submit_exclusive(BLOCKS);
    let (link, run) = board.assignment(task);
    board.cut(link);
    board.wait(2 * LEASE);
    board.join("first", 2, Vec::new());
    board.wait(SECOND);
    board.restart();
    board.join("first", 1, Vec::new());
    let nodes = board.machine.stats(board.now).nodes;
    assert_ne!(nodes[0].state, NodeState::Up, "it is not the node any more");
    // By its word its run has ended.
    board.join("first", 2, Vec::new());
    board.wait(RESYNC);
    assert!(board.assignment(task).1.dispatch > run.dispatch);
}

/// Kills a scheduler with a local node that runs a task.
fn killed_with_local(board: &mut Board, starts: u64) {
    board.add_own(starts);
    board.wait(6 * SECOND);
}

#[test]
fn g7_a_task_that_kills_the_scheduler_fails_after_as_many_starts_as_it_may_lose_nodes() {
    let mut board = Board::stored(|config| config.max_reroutes = 2);
    killed_with_local(&mut board, 0);
    let task = board.submit(STOPS);
    let mut crashes = 0;
    while board.machine.explain(board.now, task).is_some() {
        crashes += 1;
        assert!(crashes < 6, "it would never end");
        board.wait(SECOND);
        board.restart();
        killed_with_local(&mut board, crashes);
    }
    assert_eq!(crashes, 3);
    assert!(matches!(&board.told[0].outcome, Outcome::Failed(it) if it.cause == Cause::NodeLost));
}

#[test]
fn g7_an_end_in_order_is_no_loss() {
    let mut board = Board::stored(|config| config.max_reroutes = 0);
    killed_with_local(&mut board, 0);
    let task = board.submit(STOPS);
    board.wait(SECOND);
    board.machine.close(board.now);
    board.wait(SECOND);
    let closed = board.store().log.ledger().is_closed();
    assert!(closed, "the term has ended in order");
    for starts in 1..3 {
        board.restart();
        killed_with_local(&mut board, starts);
        board.machine.close(board.now);
        board.wait(SECOND);
    }
    assert!(board.machine.explain(board.now, task).is_some() && board.told.is_empty());
}

#[test]
fn delays_and_deadlines_go_on_also_when_the_clock_was_set_back() {
    let hour = Duration::from_secs(3600);
    let mut board = Board::stored(|_| {});
    let later = board.submit_with(STOPS, |it| {
        it.options = Some(Box::new(Options {
            due: Due::After(10 * SECOND),
            deadline: Some(20 * SECOND),
            ..Options::default()
        }));
    });
    board.wait(4 * SECOND);
    let planned = board.now + hour;
    let at = board.submit_with(STOPS, |it| {
        it.options = Some(Box::new(Options {
            due: Due::At(planned.to_system_time()),
            ..Options::default()
        }));
    });
    board.restart_with(hour, |_| {});
    board.join("first", 1, Vec::new());
    let is_placed = |board: &Board, task| board.assigned.iter().any(|(_, run)| run.task == task);
    board.wait(5 * SECOND);
    assert!(!is_placed(&board, later));
    board.wait(SECOND);
    assert!(
        is_placed(&board, later),
        "ten seconds after it was accepted"
    );
    board.wait(11 * SECOND);
    assert!(matches!(&board.told[0].outcome, Outcome::Failed(it) if it.cause == Cause::Deadline));
    board.wait(hour);
    board.join("second", 2, Vec::new());
    assert!(!is_placed(&board, at), "its clock shows an hour less");
    board.wait(hour);
    board.join("third", 3, Vec::new());
    assert!(is_placed(&board, at));
}

#[test]
fn order_priority_and_settings_outlast_a_kill() {
    let mut board = Board::stored(|_| {});
    let second = board.submit(STOPS);
    let third = board.submit(STOPS);
    let first = board.submit_with(STOPS, |it| {
        it.options = Some(Box::new(Options {
            priority: crate::task::Priority(5),
            ..Options::default()
        }));
    });
    let set = board.machine.set_workers(board.now, None, 1);
    assert!(set.is_ok());
    board.wait(SECOND);
    board.restart();
    board.join("first", 1, Vec::new());
    let mut order = Vec::new();
    while let Some((link, run)) = board.assigned.pop() {
        order.push(run.task);
        board.end_of(link, &run, done(), false);
    }
    assert_eq!(order, [first, second, third]);
}

#[test]
fn g12_a_cancel_that_was_asked_for_goes_out_with_the_next_welcome() {
    let (mut board, run) = running(STOPS, Options::default());
    board.cancel(run.task);
    board.restart();
    board.join("first", 1, holds(&run));
    board.end_of(LinkId(board.links), &run, End::Stopped, false);
    assert_eq!(board.told[0].outcome, Outcome::Cancelled);
}

#[test]
fn a_key_stays_taken_over_a_kill() {
    let mut board = Board::stored(|_| {});
    board.join("first", 1, Vec::new());
    let task = board.submit_keyed(BLOCKS, "k");
    let (link, run) = board.assignment(task);
    board.end_of(
        link,
        &run,
        End::Failed(Box::new(Failure::new(Cause::Timeout, ""))),
        true,
    );
    board.wait(SECOND);
    board.restart();
    assert!(matches!(
        board.refused_key("k"),
        Some(Refusal::KeyBusy { .. })
    ));
    board.join("first", 1, Vec::new());
    assert_eq!(
        board.refused_key("k"),
        None,
        "its node does not name the run"
    );
}

#[test]
fn a_copy_runs_what_has_not_settled_anew_and_waits_for_nobody() {
    let exclusive = Options {
        exclusive: true,
        key: Some("k".into()),
        ..Options::default()
    };
    let (mut board, run) = running(BLOCKS, exclusive);
    let copy = board.next_term(Duration::ZERO, SchedulerId(99), |_| {});
    board.go_on(copy.expect("it fits"));
    board.join("other", 5, Vec::new());
    assert!(board.assignment(run.task).1.dispatch > run.dispatch);
}

#[test]
fn more_tasks_than_may_be_are_taken_over_and_new_ones_refused_until_there_is_room() {
    let mut board = Board::stored(|_| {});
    let tasks: Vec<_> = (0..4).map(|_| board.submit(STOPS)).collect();
    board.restart_with(Duration::ZERO, |config| config.max_tasks = 2);
    assert_eq!(board.machine.unfinished().len(), tasks.len());
    let full = board.refused_key("k");
    assert_eq!(full, Some(Refusal::QueueFull { limit: 2 }));
}

#[test]
fn args_that_no_link_may_carry_are_refused_at_the_start() {
    let mut board = Board::stored(|_| {});
    let task = board.submit_with(STOPS, |it| it.args = vec![0; 1000].into());
    let id = board.machine.id;
    let next = board.next_term(Duration::ZERO, id, |config| config.max_task_args = 999);
    let (bytes, limit) = (1000, 999);
    assert_eq!(
        next.err(),
        Some(Unrecoverable::TooLarge { task, bytes, limit })
    );
}

#[test]
fn g3_ids_and_dispatches_rise_over_all_terms() {
    let (mut board, run) = running(STOPS, Options::default());
    let mut before = (run.task, run.dispatch);
    for set_back in [0, 100] {
        board.restart_with(set_back * SECOND, |_| {});
        board.join("second", 2, Vec::new());
        board.wait(RESYNC);
        let task = board.submit(STOPS);
        let (_, run) = board.assignment(task);
        assert!(task > before.0 && run.dispatch > before.1);
        before = (task, run.dispatch);
        board.wait(SECOND);
    }
    let last = board.store().log.ledger().reserved();
    assert!(last.tasks > before.0.get() && last.dispatches > before.1.get());
}

#[test]
fn a_cancel_of_an_earlier_task_comes_too_late() {
    let (mut board, _) = stored();
    let task = board.submit(STOPS);
    board.end(task, done(), false);
    board.wait(SECOND);
    board.restart();
    board.cancel(task);
    assert_eq!(board.answers, [CancelAnswer::TooLate]);
}
