//! What an operator is told of tasks that go elsewhere.

use std::time::Duration;

use super::{Board, STOPS};

#[test]
fn a_reroute_is_noted_once_for_each_batch_node_and_reason() {
    let mut board = Board::new();
    let first = board.join("first", 1, Vec::new());
    for _ in 0..2 {
        board.submit(STOPS);
    }
    assert_eq!(board.assigned.len(), 2);
    board.cut(first);
    board.wait(Duration::from_secs(30));
    let lost = ("lost", "first".to_owned(), 2);
    assert_eq!(board.reroutes, [lost]);

    board.reroutes.clear();
    let second = board.join("second", 2, Vec::new());
    let (_, run) = board.assigned.last().cloned().unwrap();
    board.refuse(second, &run);
    let refused = ("refused", "second".to_owned(), 1);
    assert_eq!(board.reroutes, [refused]);

    board.reroutes.clear();
    board.machine.remove_node(board.now, "second").unwrap();
    board.settle_down();
    let removed = ("removed", "second".to_owned(), 1);
    assert_eq!(board.reroutes, [removed]);
    assert_eq!(board.machine.stats(board.now).totals.rerouted, 4);
}
