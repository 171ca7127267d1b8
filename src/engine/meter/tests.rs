//! Tests of the buckets, and of who is counted by name.

use super::kinds::NAMED;
use super::*;
use crate::engine::Timestamp;

/// Returns where the plain way would put it: into the first bucket whose bound is not below it.
fn plainly(nanos: u64) -> usize {
    let bound = BOUNDS.iter().position(|&bound| nanos <= bound);
    bound.unwrap_or(BOUNDS.len())
}

#[test]
fn each_time_is_in_the_first_bucket_whose_bound_is_not_below_it() {
    let near = |at: u64| [at.saturating_sub(1), at, at.saturating_add(1)];
    let powers = (0..64).map(|bit| 1 << bit);
    let all = powers.chain(BOUNDS).chain([0, u64::MAX]).flat_map(near);
    let mut sum = 0;
    let mut all_times = Histogram::default();
    for nanos in all {
        let mut one = Histogram::default();
        one.add_nanos(nanos);
        let at = one.buckets.iter().position(|&count| count == 1);
        assert_eq!(at, Some(plainly(nanos)), "{nanos} ns");
        assert_eq!(one.count(), 1);
        all_times.absorb(&one);
        sum += u128::from(nanos);
    }
    assert_eq!(all_times.sum_nanos(), sum);
    let cumulative: Vec<_> = all_times.cumulative().collect();
    assert!(cumulative.is_sorted(), "they only rise: {cumulative:?}");
    assert!(cumulative.last().unwrap().1 < all_times.count());
}

#[test]
fn a_time_that_no_number_holds_is_the_longest() {
    assert_eq!(nanos(Duration::MAX), u64::MAX);
    assert_eq!(nanos(Duration::from_millis(3)), 3_000_000);
}

fn kind(number: usize) -> TaskKind {
    TaskKind::from(format!("kind {number}"))
}

#[test]
fn the_first_kinds_are_counted_by_name_and_all_later_ones_together() {
    let mut meters = KindMeters::default();
    let ids: Vec<_> = (0..NAMED + 3).map(|at| meters.find(&kind(at))).collect();
    let expected: Vec<_> = (1..=NAMED as MeterId).chain([OTHER; 3]).collect();
    assert_eq!(ids, expected);
    assert_eq!(meters.find(&kind(7)), ids[7], "it is found again");
    assert_eq!(meters.all().len(), NAMED + 1);
}

#[test]
fn a_kind_that_takes_the_place_of_another_begins_at_zero_and_nothing_is_lost() {
    let mut meters = KindMeters::default();
    for at in 0..NAMED {
        let id = meters.find(&kind(at));
        meters.get(id).accepted = 100 + at as u64;
    }
    let now = Timestamp(1 << 60);
    assert!(!meters.is_review_due(now), "there are few kinds");
    assert_eq!(meters.find(&kind(NAMED)), OTHER);
    assert!(!meters.is_review_due(now), "it is due a minute later");
    let later = now + Duration::from_secs(60);
    assert!(meters.is_review_due(later) && !meters.is_review_due(later));
    assert_eq!(meters.replace(3, kind(NAMED)), Some(kind(2)));
    assert_eq!(meters.find(&kind(NAMED)), 3);
    assert_eq!(meters.find(&kind(2)), OTHER);
    assert_eq!(meters.get(3).accepted, 0, "it begins at zero");
    let all: u64 = (0..NAMED as u64).map(|at| 100 + at).sum();
    assert_eq!(meters.sum().accepted, all);
}

#[test]
fn a_kind_of_the_name_of_all_others_is_one_of_them() {
    let mut meters = KindMeters::default();
    assert_eq!(meters.find(&TaskKind::from(OTHER_NAME)), OTHER);
}
