//! G1: what comes late changes nothing, and is counted.

use super::superseded;
use crate::engine::message::{End, HeldRun, HeldState};
use crate::payload::Payload;

#[test]
fn g1_the_late_result_of_a_superseded_run_is_counted_even_if_its_node_returns_with_it_running() {
    let (mut board, task, run) = superseded();
    let (_, second) = board.assignment(task);
    assert!(second.dispatch > run.dispatch);

    let held = HeldRun {
        task,
        dispatch: run.dispatch,
        state: HeldState::Running,
    };
    let link = board.join("first", 1, vec![held]);
    board.end_of(link, &run, End::Completed(Payload::new()), false);
    assert!(board.told.is_empty(), "{:?}", board.told);
    assert_eq!(board.machine.stats(board.now).totals.stale_reports, 1);

    board.end(task, End::Completed(Payload::new()), false);
    assert_eq!(board.told.len(), 1);
}
