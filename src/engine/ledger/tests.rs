//! Folds that hold, and records that the fold refuses.

use proptest::prelude::*;

use super::*;
use crate::engine::record::{FinalOutcome, ProcessFact, RunRef, Setting, Timing};
use crate::engine::{Incarnation, Reach, SchedulerId};

pub(crate) type Batch = (Stamp, Vec<Record>);

/// Writes a log as a scheduler might, one draw a step, and drops its beginning as it goes.
pub(crate) struct Author {
    /// The log from its first batch on.
    pub batches: Vec<Batch>,
    /// The first batch that is kept.
    pub kept: usize,
    open: Vec<Record>,
    ledger: Ledger,
    term: u64,
    next_task: u64,
    next_dispatch: u64,
    now: u64,
}

const RESERVED: Reserved = Reserved {
    tasks: 1 << 20,
    dispatches: 1 << 20,
};

pub(crate) fn head(term: u64) -> Record {
    Record::Head(Box::new(Head {
        scheduler: "orders".into(),
        scheduler_id: SchedulerId(7),
        copied_from: None,
        term: Term(term),
        at: Timestamp(term),
        set_back: Duration::ZERO,
        timing: Timing {
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(15),
            outlive: Duration::from_secs(60),
        },
        reserved: RESERVED,
        nodes: Vec::new(),
        settings: Vec::new(),
    }))
}

fn accepted(id: u64) -> Record {
    Record::Accepted(Box::new(AcceptedTask {
        id: TaskId::new(id),
        at: Timestamp(id),
        kind: "resize".into(),
        args: vec![id as u8].into(),
        options: None,
    }))
}

fn changed(id: u64, over: u64) -> Record {
    Record::Changed(Box::new(Changed {
        id: TaskId::new(id),
        failed_attempts: 1,
        due: Some(Timestamp(100)),
        over: Dispatch::new(over),
        lost: Vec::new(),
        lost_prefetched: None,
        last_failure: None,
        cancelling: false,
        orphans: Vec::new(),
        held: None,
    }))
}

fn process(node: &str) -> ProcessRef {
    ProcessRef {
        node: node.into(),
        incarnation: Incarnation(1),
    }
}

fn placed(id: u64, dispatch: u64) -> Record {
    Record::Placed {
        at: process("n1"),
        runs: vec![PlacedRun {
            task: TaskId::new(id),
            dispatch: Dispatch::new(dispatch),
            prefetched: false,
            blocking: false,
        }],
    }
}

fn settled(id: u64, busy: bool) -> Record {
    let run = RunRef {
        at: process("n1"),
        dispatch: Dispatch::new(1),
        blocking: true,
        not_before: Timestamp(0),
    };
    Record::Settled(Box::new(SettledTask {
        id: TaskId::new(id),
        outcome: FinalOutcome::Cancelled,
        node: None,
        attempts: 1,
        reroutes: 0,
        started_at: None,
        at: Timestamp(9),
        busy: busy.then_some(run).into_iter().collect(),
    }))
}

fn stamp(batch: u64, term: u64) -> Stamp {
    Stamp {
        term: Term(term),
        batch,
        next_task: 100,
        next_dispatch: 100,
        at: Timestamp(0),
    }
}

impl Author {
    pub fn new() -> Self {
        let mut author = Self {
            batches: Vec::new(),
            kept: 0,
            open: vec![head(1)],
            ledger: Ledger::default(),
            term: 1,
            next_task: 1,
            next_dispatch: 1,
            now: 0,
        };
        author.seal();
        author
    }

    pub fn seal(&mut self) {
        let stamp = Stamp {
            term: Term(self.term),
            batch: self.batches.len() as u64 + 1,
            next_task: self.next_task,
            next_dispatch: self.next_dispatch,
            at: Timestamp(self.now),
        };
        let records = std::mem::take(&mut self.open);
        self.ledger.begin(stamp).unwrap();
        for record in &records {
            self.ledger.apply(record.clone()).unwrap();
        }
        self.batches.push((stamp, records));
    }

    /// Takes a step, whose record is stored as a batch of its own or with those that follow.
    pub fn step(&mut self, what: u8, pick: u8) {
        self.now += 1;
        // So that the ledger tells what may follow.
        self.seal();
        let known: Vec<_> = self.ledger.tasks().iter().collect();
        let picked = known.get(usize::from(pick) % known.len().max(1));
        let record = match (what % 10, picked) {
            (0..3, _) | (_, None) => {
                self.next_task += 1;
                accepted(self.next_task - 1)
            }
            (9, _) if what > 200 => return self.restart(),
            (9, _) => return self.clean(usize::from(pick)),
            (_, Some((id, task))) => match (&task.state, what % 10) {
                (LedgerState::Open { placed: None, .. }, 3..6) => {
                    self.next_dispatch += 1;
                    placed(id.get(), self.next_dispatch - 1)
                }
                (LedgerState::Open { placed, .. }, 3..7) => {
                    let over = placed.as_ref().map_or(0, |it| it.run.dispatch.get());
                    changed(id.get(), over)
                }
                (LedgerState::Open { .. }, _) => settled(id.get(), pick & 1 == 1),
                (LedgerState::Settled { ending, .. }, 8) if !ending.busy.is_empty() => {
                    Record::Freed(**id)
                }
                (LedgerState::Settled { .. }, _) => Record::Confirmed(vec![**id]),
            },
        };
        self.open.push(record);
    }

    fn restart(&mut self) {
        if self.now & 1 == 0 {
            self.open.push(Record::Closed);
            self.seal();
        }
        self.term += 1;
        self.open.push(head(self.term));
    }

    /// Writes what lives of the first batches again, and drops them.
    fn clean(&mut self, count: usize) {
        let upto = (self.kept + count).min(self.batches.len());
        let accepted = self.batches[self.kept..upto]
            .iter()
            .flat_map(|(_, records)| {
                records.iter().filter_map(|record| match record {
                    Record::Accepted(task) => Some(task.id),
                    _ => None,
                })
            });
        let mut again = vec![head(self.term)];
        let mut seen = std::collections::BTreeSet::new();
        for id in accepted.filter(|id| seen.insert(*id)) {
            let task = self.ledger.tasks().get(&id);
            again.extend(task.into_iter().flat_map(TaskFacts::rewritten));
        }
        self.open = again;
        self.seal();
        self.kept = upto;
    }
}

pub(crate) fn fold(batches: &[Batch]) -> Result<Ledger, Illegal> {
    let mut ledger = Ledger::default();
    for (stamp, records) in batches {
        ledger.begin(*stamp)?;
        for record in records {
            ledger.apply(record.clone())?;
        }
    }
    ledger.finish()?;
    Ok(ledger)
}

/// Returns the error of these records after a head, in one batch.
fn refused(records: &[Record]) -> Illegal {
    let all = [&[head(1)], records].concat();
    let refused = fold(&[(stamp(1, 1), all)]);
    refused.expect_err("these cannot follow each other")
}

proptest! {
    #[test]
    fn a_dropped_beginning_changes_nothing_if_what_lives_was_written_again(
        steps in prop::collection::vec(any::<(u8, u8)>(), 1..80),
    ) {
        let mut author = Author::new();
        for (what, pick) in steps {
            author.step(what, pick);
        }
        author.seal();
        let whole = fold(&author.batches).unwrap();
        prop_assert_eq!(&fold(&author.batches[author.kept..]).unwrap(), &whole);
        prop_assert_eq!(&whole, &author.ledger);
    }
}

#[test]
fn g1_a_second_ending_is_refused() {
    let refused_by = |records: &[Record]| refused(records);
    let twice = [accepted(1), settled(1, false), settled(1, false)];
    assert_eq!(refused_by(&twice), Illegal::SettledBefore(TaskId::new(1)));
    let goes_on = [accepted(1), settled(1, false), placed(1, 5)];
    assert_eq!(refused_by(&goes_on), Illegal::SettledBefore(TaskId::new(1)));
    let changes = [accepted(1), settled(1, false), changed(1, 5)];
    assert_eq!(refused_by(&changes), Illegal::SettledBefore(TaskId::new(1)));
    let told = [accepted(1), Record::Confirmed(vec![TaskId::new(1)])];
    assert_eq!(refused_by(&told), Illegal::NotSettled(TaskId::new(1)));
}

#[test]
fn what_was_never_accepted_or_reserved_is_refused() {
    assert_eq!(
        refused(&[settled(100, false)]),
        Illegal::Unknown(TaskId::new(100))
    );
    assert_eq!(refused(&[accepted(100)]), Illegal::NotReserved(100));
    let beyond = [accepted(1), placed(1, RESERVED.dispatches)];
    assert_eq!(refused(&beyond), Illegal::NotReserved(RESERVED.dispatches));
    let less = Record::Reserved(Reserved::default());
    assert_eq!(refused(&[less]), Illegal::NotReserved(RESERVED.tasks));
    let Record::Accepted(mut other) = accepted(1) else {
        unreachable!("made so")
    };
    other.args = vec![2].into();
    let doubled = [accepted(1), Record::Accepted(other)];
    assert_eq!(refused(&doubled), Illegal::AcceptedTwice(TaskId::new(1)));
}

#[test]
fn what_the_dropped_beginning_had_is_passed_over() {
    // Ids below 100 were given out before the first batch that is left.
    let batch = vec![
        head(1),
        settled(99, false),
        placed(98, 3),
        Record::Freed(TaskId::new(97)),
    ];
    assert!(fold(&[(stamp(8, 1), batch)]).unwrap().tasks().is_empty());
    let without_head = vec![accepted(1)];
    assert_eq!(fold(&[(stamp(8, 1), without_head)]), Err(Illegal::NoHead));
}

#[test]
fn batches_follow_each_other_and_terms_begin_with_their_head() {
    let first = (stamp(1, 1), vec![head(1), accepted(1)]);
    let gap = fold(&[first.clone(), (stamp(3, 1), Vec::new())]);
    assert_eq!(gap, Err(Illegal::Gap { last: 1, found: 3 }));
    let (last, found) = (Term(1), Term(2));
    let headless = fold(&[first.clone(), (stamp(2, 2), vec![accepted(2)])]);
    assert_eq!(headless, Err(Illegal::Term { last, found }));
    let other = (stamp(2, 2), vec![head(3)]);
    let other = fold(&[first.clone(), other]);
    assert_eq!(
        other,
        Err(Illegal::Term {
            last,
            found: Term(3)
        })
    );
    let back = fold(&[(stamp(1, 2), vec![head(2)]), (stamp(2, 1), vec![head(1)])]);
    let (last, found) = (Term(2), Term(1));
    assert_eq!(back, Err(Illegal::Term { last, found }));
    let ended = fold(&[
        first.clone(),
        (stamp(2, 1), vec![Record::Closed, accepted(2)]),
    ]);
    assert_eq!(ended, Err(Illegal::AfterEnd));
    let same_term = fold(&[first, (stamp(2, 1), vec![Record::Closed, head(1)])]);
    assert!(same_term.is_err(), "an ended term does not begin again");
}

#[test]
fn a_placing_that_is_over_is_none_and_a_later_one_counts() {
    let placing = |records: &[Record]| {
        let all = [&[head(1), accepted(1)], records].concat();
        let ledger = fold(&[(stamp(1, 1), all)]).unwrap();
        match &ledger.tasks()[&TaskId::new(1)].state {
            LedgerState::Open { placed, .. } => placed.as_ref().map(|it| it.run.dispatch.get()),
            LedgerState::Settled { .. } => panic!("nothing has settled it"),
        }
    };
    assert_eq!(placing(&[placed(1, 4)]), Some(4));
    assert_eq!(
        placing(&[placed(1, 4), placed(1, 7), placed(1, 5)]),
        Some(7)
    );
    assert_eq!(placing(&[placed(1, 4), changed(1, 4)]), None);
    assert_eq!(placing(&[placed(1, 5), changed(1, 4)]), Some(5));
    assert_eq!(placing(&[changed(1, 4), placed(1, 4)]), None);
}

#[test]
fn a_busy_key_keeps_a_confirmed_task_until_it_is_free() {
    let id = TaskId::new(1);
    let mut records = vec![
        head(1),
        accepted(1),
        settled(1, true),
        Record::Confirmed(vec![id]),
    ];
    assert_eq!(
        fold(&[(stamp(1, 1), records.clone())])
            .unwrap()
            .tasks()
            .len(),
        1
    );
    records.push(Record::Freed(id));
    assert!(fold(&[(stamp(1, 1), records)]).unwrap().tasks().is_empty());
}

#[test]
fn a_clock_that_was_set_back_takes_what_waits_along() {
    let Record::Head(mut again) = head(2) else {
        unreachable!("made so")
    };
    again.set_back = Duration::from_nanos(40);
    let first = (stamp(1, 1), vec![head(1), accepted(60), changed(60, 1)]);
    let ledger = fold(&[first, (stamp(2, 2), vec![Record::Head(again)])]).unwrap();
    let task = &ledger.tasks()[&TaskId::new(60)];
    assert_eq!(task.accepted.at, Timestamp(20));
    let LedgerState::Open {
        changed: Some(changed),
        ..
    } = &task.state
    else {
        panic!("it waits: {task:?}");
    };
    assert_eq!(changed.due, Some(Timestamp(60)));
}

#[test]
fn nodes_and_settings_are_those_of_the_last_head_and_what_followed() {
    let node = |name: &str, process| {
        Record::Node(Box::new(NodeFact {
            name: name.into(),
            reach: Reach::Joins,
            process,
            replaced: Vec::new(),
        }))
    };
    let first = vec![
        head(1),
        node("a", ProcessFact::None),
        node("b", ProcessFact::None),
        node("a", ProcessFact::Removed(None)),
        Record::Setting(Setting::MaxWorkers(3)),
    ];
    let ledger = fold(&[(stamp(1, 1), first.clone())]).unwrap();
    assert_eq!(
        ledger
            .nodes()
            .keys()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        ["b"]
    );
    assert_eq!(ledger.settings().max_workers, Some(3));
    // The head of the next term says it all anew.
    let ledger = fold(&[(stamp(1, 1), first), (stamp(2, 2), vec![head(2)])]).unwrap();
    assert!(ledger.nodes().is_empty() && ledger.settings().list().is_empty());
}

#[test]
fn a_copy_keeps_its_tasks_and_forgets_their_runs() {
    let copied = |from| {
        let Record::Head(mut head) = head(2) else {
            unreachable!("made so")
        };
        head.scheduler_id = SchedulerId(8);
        head.copied_from = from;
        let known = vec![
            self::head(1),
            accepted(1),
            placed(1, 3),
            accepted(2),
            settled(2, true),
            Record::Confirmed(vec![TaskId::new(2)]),
        ];
        fold(&[
            (stamp(1, 1), known),
            (stamp(2, 2), vec![Record::Head(head)]),
        ])
    };
    assert_eq!(copied(None), Err(Illegal::OtherScheduler));
    assert_eq!(copied(Some(SchedulerId(9))), Err(Illegal::OtherScheduler));
    let ledger = copied(Some(SchedulerId(7))).unwrap();
    assert_eq!(
        ledger.tasks().keys().copied().collect::<Vec<_>>(),
        [TaskId::new(1)]
    );
    let LedgerState::Open { placed, .. } = &ledger.tasks()[&TaskId::new(1)].state else {
        panic!("it goes on");
    };
    assert_eq!(*placed, None);
}
