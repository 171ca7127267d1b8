//! A log that is cleaned as it is told to, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, prop};
use proptest::proptest;

use super::*;
use crate::engine::record::{
    AcceptedTask, Head, ProcessRef, Reserved, RunRef, SettledTask, Term, Timing,
};
use crate::engine::{Incarnation, SchedulerId, Timestamp};
use crate::task::Dispatch;

/// A log, and who writes to it.
#[derive(Default)]
struct Book {
    cleaning: Cleaning,
    /// The records of each batch that is kept, and their bytes.
    log: BTreeMap<u64, (Vec<Record>, u64)>,
    living: BTreeMap<TaskId, usize>,
    /// What is over, and is written down with the next batch that is stored.
    over: Vec<TaskId>,
    next: u64,
    last: u64,
}

fn head() -> Record {
    let timing = Timing {
        heartbeat: Duration::ZERO,
        lease: Duration::ZERO,
        outlive: Duration::ZERO,
    };
    Record::Head(Box::new(Head {
        scheduler: "orders".into(),
        scheduler_id: SchedulerId(1),
        copied_from: None,
        term: Term(1),
        at: Timestamp(0),
        set_back: Duration::ZERO,
        timing,
        reserved: Reserved::default(),
        nodes: Vec::new(),
        settings: Vec::new(),
    }))
}

fn accepted(id: TaskId, size: usize) -> Record {
    Record::Accepted(Box::new(AcceptedTask {
        id,
        at: Timestamp(0),
        kind: "kind".into(),
        args: vec![0; size].into(),
        options: None,
    }))
}

fn bytes_of(records: &[Record]) -> u64 {
    let size = |record: &Record| match record {
        Record::Accepted(task) => 30 + task.args.len() as u64,
        _ => 100,
    };
    52 + records.iter().map(size).sum::<u64>()
}

impl Book {
    fn new() -> Self {
        let mut book = Self {
            next: 1000,
            ..Self::default()
        };
        book.seal(&[], true, |_| {});
        book
    }

    /// Stores a batch with new tasks of these sizes, or fails to; `meanwhile` is done when it is
    /// under way.
    fn seal(&mut self, sizes: &[usize], is_stored: bool, meanwhile: impl FnOnce(&mut Self)) {
        let next = match self.log.is_empty() {
            true => Next::Headed,
            false => Next::Plain,
        };
        self.seal_as(next, sizes, is_stored, meanwhile);
    }

    fn seal_as(
        &mut self,
        next: Next,
        sizes: &[usize],
        is_stored: bool,
        meanwhile: impl FnOnce(&mut Self),
    ) {
        let plan = self.cleaning.plan(next);
        let mut records = Vec::new();
        if plan.head || next == Next::Headed {
            records.push(head());
        }
        let over = std::mem::take(&mut self.over);
        for id in plan.again.iter().filter(|id| !over.contains(id)) {
            let size = self
                .living
                .get(id)
                .expect("only what lives is written again");
            records.push(accepted(*id, *size));
        }
        records.push(Record::Confirmed(over.clone()));
        let new: Vec<_> = (self.next..)
            .map(TaskId::new)
            .zip(sizes.iter().copied())
            .collect();
        records.extend(new.iter().map(|&(id, size)| accepted(id, size)));
        let number = self.last + 1;
        self.cleaning.sealed(number, &records, plan.truncate);
        meanwhile(self);
        if !is_stored {
            self.cleaning.not_stored();
            self.over.extend(over);
            return;
        }
        let bytes = bytes_of(&records);
        self.cleaning.stored(bytes);
        self.last = number;
        self.next += sizes.len() as u64;
        self.living.extend(new);
        self.log.insert(number, (records, bytes));
        self.log = self.log.split_off(&plan.truncate.unwrap_or(0));
        self.check();
    }

    fn over(&mut self, id: TaskId) {
        self.living.remove(&id);
        self.over.push(id);
    }

    /// Checks that nothing that lives was dropped, nor the head, and that what is counted is there.
    fn check(&self) {
        let records = || self.log.values().flat_map(|(records, _)| records);
        let kept: BTreeSet<_> = records()
            .filter_map(|record| match record {
                Record::Accepted(task) => Some(task.id),
                _ => None,
            })
            .collect();
        let lost: Vec<_> = self.living.keys().filter(|id| !kept.contains(id)).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert!(records().any(|record| matches!(record, Record::Head(_))));
        let bytes = self.log.values().map(|(_, bytes)| bytes).sum::<u64>();
        assert_eq!(self.cleaning.bytes(), bytes);
        assert_eq!(self.cleaning.batches(), self.log.len());
        // What is over counts until that is stored.
        let mut living = alive(&self.cleaning);
        living.retain(|id| !self.over.contains(id));
        assert_eq!(living, self.living.keys().copied().collect());
    }

    /// Returns what a scheduler knows that starts on it.
    fn found(&self) -> Cleaning {
        let mut cleaning = Cleaning::default();
        for (number, (records, bytes)) in &self.log {
            cleaning.found(*number, records, *bytes);
        }
        cleaning
    }

    fn bound(&self) -> u64 {
        2 * self.cleaning.living_bytes() + self.cleaning.bounds.room
    }
}

fn alive(cleaning: &Cleaning) -> BTreeSet<TaskId> {
    let accepted = cleaning.batches.iter().flat_map(|it| it.accepted.iter());
    accepted.chain(cleaning.moved.keys().copied()).collect()
}

#[test]
fn what_is_over_in_order_is_dropped_and_never_written_again() {
    let mut book = Book::new();
    for _ in 0..1_000 {
        book.seal(&[100; 100], true, |_| {});
        let first: Vec<_> = book.living.keys().copied().take(100).collect();
        first.into_iter().for_each(|id| book.over(id));
        assert_eq!(book.cleaning.plan(Next::Plain).again, []);
    }
    assert!(
        book.cleaning.bytes() < 2 * book.cleaning.bounds.worth_a_head,
        "{}",
        book.cleaning.bytes()
    );
}

#[test]
fn one_task_that_waits_is_written_again_and_keeps_nothing_else() {
    let mut book = Book::new();
    book.seal(&[1000], true, |_| {});
    let waits = TaskId::new(1000);
    for _ in 0..600 {
        book.seal(&[10_000; 10], true, |_| {});
        let ended: Vec<_> = book
            .living
            .keys()
            .copied()
            .filter(|&id| id != waits)
            .collect();
        ended.into_iter().for_each(|id| book.over(id));
        assert!(book.cleaning.bytes() <= book.bound() + 2 * book.cleaning.bounds.again);
    }
    assert!(book.log.keys().next().is_some_and(|&first| first > 300));
    book.over(waits);
    book.seal(&[], true, |_| {});
    assert_eq!(alive(&book.cleaning), BTreeSet::new());
}

#[test]
fn a_term_that_ends_leaves_little_beside_a_task_that_waits() {
    let mut book = Book::new();
    book.seal(&[1000], true, |_| {});
    book.seal(&[10_000; 100], true, |_| {});
    let mut ended: Vec<_> = book.living.keys().copied().collect();
    let waits = ended.remove(0);
    ended.into_iter().for_each(|id| book.over(id));
    book.seal(&[], true, |_| {});
    assert!(
        book.cleaning.is_too_much_to_leave(),
        "{waits} keeps a megabyte"
    );
    book.seal_as(Next::LastButOne, &[], true, |_| {});
    book.seal_as(Next::Last, &[], true, |_| {});
    assert!(book.cleaning.bytes() < 10_000, "{}", book.cleaning.bytes());
    assert_eq!(alive(&book.cleaning), BTreeSet::from([waits]));
    assert!(!book.found().is_too_much_to_leave());
}

#[test]
fn many_small_batches_are_merged() {
    let mut book = Book::new();
    let mut most = 0;
    let max_small = book.cleaning.bounds.max_small;
    for _ in 0..3 * max_small {
        book.seal(&[10], true, |_| {});
        most = most.max(book.cleaning.batches());
    }
    // One is too many, the next one has what is written again, and with the one after that the old
    // ones go.
    assert!(most <= max_small + 3, "{most} batches");
    assert_eq!(book.living.len(), 3 * max_small);
}

#[test]
fn a_task_larger_than_all_that_is_written_again_at_once_is_written_again_alone() {
    let mut book = Book::new();
    book.seal(&[3 << 20, 100], true, |_| {});
    for _ in 0..30 {
        book.seal(&[1 << 20], true, |_| {});
        let last = *book.living.keys().next_back().unwrap();
        book.over(last);
    }
    assert!(book.cleaning.bytes() <= book.bound() + (4 << 20));
    assert_eq!(book.living.len(), 2);
}

#[test]
fn a_busy_key_that_is_confirmed_and_written_again_in_one_batch_lives_for_whoever_starts_there() {
    let id = TaskId::new(6);
    let run = RunRef {
        at: ProcessRef {
            node: "north".into(),
            incarnation: Incarnation(1),
        },
        dispatch: Dispatch::new(6),
        blocking: true,
        not_before: Timestamp(0),
    };
    let settled = Record::Settled(Box::new(SettledTask {
        id,
        outcome: FinalOutcome::Cancelled,
        node: None,
        attempts: 1,
        reroutes: 0,
        started_at: None,
        at: Timestamp(0),
        busy: vec![run],
    }));
    let confirmed = || Record::Confirmed(vec![id]);
    let again = [confirmed(), accepted(id, 10), settled, confirmed()];
    let mut cleaning = Cleaning::default();
    cleaning.found(45, &again, 500);
    assert_eq!(alive(&cleaning), BTreeSet::from([id]));
    cleaning.found(46, &[Record::Freed(id)], 50);
    assert!(alive(&cleaning).is_empty());
}

#[test]
fn what_ends_while_it_is_being_written_again_stays_over() {
    for is_stored in [true, false] {
        let mut book = Book::new();
        book.seal(&[10; 50], true, |_| {});
        let first = TaskId::new(1000);
        for _ in 0..20 {
            book.seal(&[1 << 20], true, |_| {});
            let last = *book.living.keys().next_back().unwrap();
            book.over(last);
        }
        // It may have been written again before; so it is made too much once more.
        while !book.cleaning.plan(Next::Plain).again.contains(&first) {
            book.seal(&[1 << 20], true, |_| {});
            let last = *book.living.keys().next_back().unwrap();
            book.over(last);
        }
        book.seal(&[], is_stored, |book| book.over(first));
        book.seal(&[], true, |_| {});
        assert!(
            !alive(&book.cleaning).contains(&first),
            "stored: {is_stored}"
        );
    }
}

#[test]
fn what_only_a_head_holds_counts_when_the_log_is_too_large() {
    let mut book = Book::new();
    let pass = |book: &mut Book, size: usize| {
        book.seal(&[size], true, |_| {});
        let last = *book.living.keys().next_back().unwrap();
        book.over(last);
    };
    // Not worth a head by itself.
    pass(&mut book, 900_000);
    // From here on nothing can go that is not written again.
    book.seal(&[10], true, |_| {});
    for _ in 0..16 {
        pass(&mut book, 1_040_000);
    }
    for _ in 0..10 {
        book.seal(&[], true, |_| {});
    }
    let bytes = book.cleaning.bytes();
    assert!(bytes <= book.bound(), "{bytes} of {}", book.bound());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 40, ..ProptestConfig::default() })]

    /// Batches of all sizes, of which some are not stored; tasks end in any order, told twice, also
    /// while a batch is under way; and the scheduler starts anew now and then.
    #[test]
    fn nothing_that_lives_is_dropped_and_the_log_stays_within_its_bound(
        steps in prop::collection::vec((any::<u8>(), any::<u16>()), 0..400),
    ) {
        let mut book = Book::new();
        for (what, number) in steps {
            let pick = |book: &Book| {
                let nth = usize::from(number) % book.living.len().max(1);
                book.living.keys().nth(nth).copied()
            };
            let count = usize::from(what / 16);
            match what % 16 {
                0..6 => book.seal(&vec![usize::from(number) * 4; count], true, |_| {}),
                6 => book.seal(&vec![10; count * 100], true, |_| {}),
                7 => book.seal(&vec![usize::from(number); count], number % 4 > 0, |book| {
                    if let Some(id) = pick(book) {
                        book.over(id);
                        book.over(id);
                    }
                }),
                8 => {
                    book.next += u64::from(number) * 100;
                    book.cleaning = book.found();
                    book.check();
                }
                9..14 => {
                    for _ in 0..=count * 8 {
                        if let Some(id) = pick(&book) {
                            book.over(id);
                        }
                    }
                }
                // What was dropped, or never was.
                _ => book.over.push(TaskId::new(u64::from(number % 1000))),
            }
        }
        for _ in 0..200 {
            book.seal(&[], true, |_| {});
        }
        assert!(book.cleaning.bytes() <= book.bound(), "{} bytes, {} live", book.cleaning.bytes(), book.cleaning.living_bytes());
        let living: Vec<_> = book.living.keys().copied().collect();
        living.into_iter().for_each(|id| book.over(id));
        book.seal(&[], true, |_| {});
        assert_eq!((book.cleaning.living, book.cleaning.moved.len()), (0, 0));
    }
}
