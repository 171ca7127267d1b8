//! Rows of a log, whatever they hold, and records in any order.
//!
//! Owns: what must hold of the reader of rows and of the fold for any of them. Does not know:
//! files.

use std::time::Duration;

use callboard::__internals::engine::ledger::{Ledger, Stamp, TaskFacts};
use callboard::__internals::engine::record::{
    AcceptedTask, Changed, FinalOutcome, Head, NodeFact, PlacedRun, ProcessFact, ProcessRef,
    Record, Reserved, RunRef, Setting, SettledTask, Term, Timing,
};
use callboard::__internals::engine::{Incarnation, Reach, SchedulerId, Timestamp};
use callboard::__internals::store::row::{BatchReader, BatchWriter, sealed};
use callboard::task::{Dispatch, TaskId};

use super::input::Input;
use super::steps;

type Batch = (Stamp, Vec<Record>);

/// Runs an input, whose first byte says what the rest is: rows as they are, what rows with true
/// checksums hold, or records.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let batches = match input.below(3) {
        0 => read(rows(&mut input, false)),
        1 => read(rows(&mut input, true)),
        _ => records(&mut input),
    };
    for (stamp, records) in &batches {
        let again = read(written(*stamp, records).into_iter());
        assert_eq!(
            again,
            [(*stamp, records.clone())],
            "this side reads what it wrote"
        );
    }
    fold(&batches);
}

fn read(rows: impl Iterator<Item = bytes::Bytes>) -> Vec<Batch> {
    let mut reader = BatchReader::default();
    let mut batches = Vec::new();
    for row in rows {
        match reader.row(&row) {
            Ok(batch) => batches.extend(batch),
            Err(_) => break,
        }
    }
    batches
}

/// Writes small rows, so that a batch is cut.
fn written(stamp: Stamp, records: &[Record]) -> Vec<bytes::Bytes> {
    let mut writer = BatchWriter::new(stamp);
    for record in records {
        writer.record(record);
    }
    writer.into_rows(100)
}

fn rows<'a>(input: &'a mut Input<'_>, seal: bool) -> impl Iterator<Item = bytes::Bytes> + 'a {
    let mut batch = 1;
    std::iter::from_fn(move || {
        if input.is_empty() {
            return None;
        }
        let (place, length) = (input.byte(), usize::from(input.byte()));
        if !seal {
            return Some(bytes::Bytes::copy_from_slice(input.bytes(length)));
        }
        let (term, last) = (Term(u64::from(place >> 6)), place & 1 == 1);
        let stamp = stamp(batch, term);
        batch += u64::from(last);
        Some(sealed(
            stamp,
            u32::from(place >> 1 & 7),
            last,
            input.bytes(length),
        ))
    })
}

fn stamp(batch: u64, term: Term) -> Stamp {
    Stamp {
        term,
        batch,
        next_task: 8,
        next_dispatch: 8,
        at: Timestamp(batch),
    }
}

/// Checks that what can be folded can be written anew, and comes to the same.
fn fold(batches: &[Batch]) {
    let mut ledger = Ledger::default();
    for (stamp, records) in batches {
        if ledger.begin(*stamp).is_err() {
            return;
        }
        for record in records {
            if ledger.apply(record.clone()).is_err() {
                return;
            }
        }
    }
    let from_head = matches!(batches.first(), Some((_, first)) if matches!(first.first(), Some(Record::Head(_))));
    let (Ok(head), true, Some(last)) = (ledger.finish(), from_head, ledger.last()) else {
        return;
    };
    let head = Head {
        reserved: ledger.reserved(),
        nodes: ledger.nodes().values().cloned().collect(),
        settings: ledger.settings().list(),
        set_back: Duration::ZERO,
        ..head.clone()
    };
    let stamp = Stamp {
        term: head.term,
        next_task: u64::MAX,
        ..last
    };
    let mut again = Ledger::default();
    again.begin(stamp).expect("a log may begin with any batch");
    let living = ledger.tasks().values().flat_map(TaskFacts::rewritten);
    for record in std::iter::once(Record::Head(Box::new(head))).chain(living) {
        again.apply(record).expect("what is rewritten is legal");
    }
    assert_eq!(again.tasks(), ledger.tasks());
    assert_eq!(again.nodes(), ledger.nodes());
    assert_eq!(again.settings(), ledger.settings());
}

/// Records that know each other, since there are few tasks.
fn records(input: &mut Input<'_>) -> Vec<Batch> {
    let mut term = Term(1);
    let mut batches = vec![(stamp(1, term), vec![head(term)])];
    steps(input, |input| {
        let number = batches.len() as u64 + 1;
        let last = batches.last_mut().map(|(_, records)| records);
        match (input.below(16), last) {
            (0, _) => batches.push((stamp(number, term), Vec::new())),
            (1, _) => {
                term = Term(term.0 + u64::from(input.byte() & 1));
                batches.push((stamp(number, term), vec![head(term)]));
            }
            (what, Some(records)) => records.push(record(what, input)),
            (_, None) => {}
        }
    });
    batches
}

fn record(what: usize, input: &mut Input<'_>) -> Record {
    let id = TaskId::new(input.number() % 10);
    match what {
        2..6 => Record::Accepted(Box::new(AcceptedTask {
            id,
            at: Timestamp(input.number()),
            kind: "kind".into(),
            args: vec![id.get() as u8].into(),
            options: None,
        })),
        6..8 => Record::Changed(Box::new(Changed {
            id,
            failed_attempts: input.number_32(),
            due: input.bool().then(|| Timestamp(input.number())),
            over: dispatch(input),
            lost: vec![process(input)],
            lost_prefetched: None,
            last_failure: None,
            cancelling: input.bool(),
            orphans: input.bool().then(|| run_of(input)).into_iter().collect(),
            held: input.bool().then(|| dispatch(input)),
        })),
        8..10 => Record::Placed {
            at: process(input),
            runs: vec![PlacedRun {
                task: id,
                dispatch: dispatch(input),
                prefetched: input.bool(),
                blocking: input.bool(),
            }],
        },
        10..12 => Record::Settled(Box::new(SettledTask {
            id,
            outcome: FinalOutcome::Cancelled,
            node: None,
            attempts: input.number_32(),
            reroutes: 0,
            started_at: None,
            at: Timestamp(input.number()),
            busy: input.bool().then(|| run_of(input)).into_iter().collect(),
        })),
        12 => Record::Confirmed(vec![id]),
        13 => Record::Freed(id),
        14 => Record::Node(Box::new(NodeFact {
            name: process(input).node,
            reach: Reach::Joins,
            process: [ProcessFact::None, ProcessFact::Removed(None)][input.below(2)].clone(),
            replaced: Vec::new(),
        })),
        _ => match input.below(3) {
            0 => Record::Closed,
            1 => Record::Setting(Setting::MaxWorkers(input.number_32())),
            _ => Record::Reserved(Reserved {
                tasks: input.number(),
                dispatches: input.number(),
            }),
        },
    }
}

fn dispatch(input: &mut Input<'_>) -> Dispatch {
    Dispatch::new(input.number() % 10)
}

fn process(input: &mut Input<'_>) -> ProcessRef {
    ProcessRef {
        node: ["a", "b"][input.below(2)].into(),
        incarnation: Incarnation(1),
    }
}

fn run_of(input: &mut Input<'_>) -> RunRef {
    RunRef {
        at: process(input),
        dispatch: dispatch(input),
        blocking: input.bool(),
        not_before: Timestamp(input.number()),
    }
}

fn head(term: Term) -> Record {
    let second = Duration::from_secs(1);
    Record::Head(Box::new(Head {
        scheduler: "fuzz".into(),
        scheduler_id: SchedulerId(1),
        copied_from: None,
        term,
        at: Timestamp(0),
        set_back: Duration::from_nanos(term.0),
        timing: Timing {
            heartbeat: second,
            lease: second,
            outlive: second,
        },
        reserved: Reserved {
            tasks: 9,
            dispatches: 9,
        },
        nodes: Vec::new(),
        settings: Vec::new(),
    }))
}
