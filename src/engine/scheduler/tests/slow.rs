//! A link on which a round trip takes so long that little more costs the lease.

use std::time::Duration;

use super::Board;
use crate::engine::LinkId;
use crate::engine::message::{Beat, ToScheduler};

/// Beats as the node, and says how long the answer to its last beat took, if it was answered.
fn beat(board: &mut Board, link: LinkId, number: u64, round_trip: Option<Duration>) {
    let beat = Beat {
        number,
        answered: number - 1,
        round_trip,
    };
    board.say(link, ToScheduler::Beat(beat));
}

fn told(board: &Board) -> (Option<Duration>, bool) {
    let node = &board.machine.stats(board.now).nodes[0];
    (node.round_trip, node.slow_link)
}

#[test]
fn g8_a_link_slower_than_a_fifth_of_the_lease_is_told_in_stats_and_warned_of_once() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let fifth = board.machine.config.lease / 5;
    let more = fifth + Duration::from_nanos(1);
    beat(&mut board, link, 1, None);
    assert_eq!(told(&board), (None, false));
    beat(&mut board, link, 2, Some(fifth));
    assert_eq!(told(&board), (Some(fifth), false));
    assert!(board.slow.is_empty());
    for number in 3..6 {
        beat(&mut board, link, number, Some(more));
        assert_eq!(told(&board), (Some(more), true));
    }
    assert_eq!(board.slow, [("first".to_owned(), more)]);
    // About as slow as before, and then quick for a while.
    beat(&mut board, link, 6, Some(fifth * 3 / 4));
    beat(&mut board, link, 7, Some(more));
    assert_eq!(board.slow.len(), 1);
    beat(&mut board, link, 8, Some(fifth / 2));
    assert_eq!(told(&board), (Some(fifth / 2), false));
    beat(&mut board, link, 9, Some(more));
    assert_eq!(board.slow.len(), 2);
}

#[test]
fn g8_a_slow_link_that_comes_up_again_is_not_warned_of_again() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let more = board.machine.config.lease / 4;
    beat(&mut board, link, 1, Some(more));
    board.cut(link);
    let link = board.join("first", 1, Vec::new());
    beat(&mut board, link, 1, None);
    beat(&mut board, link, 2, Some(more));
    assert_eq!(board.slow.len(), 1);
    assert_eq!(told(&board), (Some(more), true));
}
