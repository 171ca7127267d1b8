//! The file that version 1 of the format was kept in: every later version reads it.

use std::fs;
use std::time::{Duration, SystemTime};

use super::WHO;
use crate::engine::found::Found;
use crate::engine::ledger::tests::fold;
use crate::engine::ledger::{Sealed, Stamp};
use crate::engine::record::{
    AcceptedTask, Changed, FinalOutcome, Head, KnownProcess, NodeFact, PlacedRun, ProcessFact,
    ProcessRef, Record, Reserved, RunRef, Setting, SettledTask, Term, Timing,
};
use crate::engine::{Incarnation, Memory, Reach, SchedulerId, Timestamp};
use crate::retry::RetryPolicy;
use crate::status::{Cause, Failure};
use crate::store::TaskLog;
use crate::store::recovery::recover;
use crate::store::table::TableLog;
use crate::store::writer::{CHECK_EVERY, LogWriter, Written};
use crate::task::{Dispatch, Due, Options, Priority, TaskId};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kept/store-1.redb");

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_file_that_was_written_by_the_first_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    fs::copy(KEPT, &path).unwrap();
    let (claim, Found { ledger, .. }) = recover(&mut TableLog::at(&path), &WHO, &mut drop).unwrap();
    assert_eq!(
        (claim.scheduler_id, claim.term, claim.last),
        (SchedulerId(7), Term(2), 3)
    );
    assert_eq!(ledger, fold(&batches()).unwrap());
}

#[test]
#[ignore = "makes the file anew, which is done once for each format"]
fn write_the_file_that_is_kept() {
    let mut log = TableLog::at(KEPT);
    log.claim(&WHO).unwrap();
    let mut writer = LogWriter::new(Box::new(log), CHECK_EVERY);
    for (stamp, records) in batches() {
        let (written, _) = writer.append(Sealed {
            stamp,
            records,
            truncate: None,
        });
        assert!(matches!(written, Written::Stored { .. }), "{written:?}");
    }
    writer.close().unwrap();
}

fn process(node: &str) -> ProcessRef {
    ProcessRef {
        node: node.into(),
        incarnation: Incarnation(3),
    }
}

fn run(dispatch: u64) -> RunRef {
    RunRef {
        at: process("north"),
        dispatch: Dispatch::new(dispatch),
        blocking: true,
        not_before: Timestamp(77),
    }
}

fn accepted(id: u64, options: Option<Options>) -> Record {
    Record::Accepted(Box::new(AcceptedTask {
        id: TaskId::new(id),
        at: Timestamp(1_000 + id),
        kind: "image.resize".into(),
        args: vec![id as u8; 10 * id as usize].into(),
        options: options.map(Box::new),
    }))
}

fn options(due: Due, retry: RetryPolicy) -> Options {
    Options {
        priority: Priority(-3),
        due,
        timeout: Some(SECOND * 5),
        deadline: Some(Duration::new(60, 7)),
        retry: Some(retry),
        labels: ["gpu", "north"].map(str::to_owned).into(),
        exclusive: true,
        max_reroutes: Some(2),
        key: Some("order-17".into()),
        again_of: None,
        group: None,
        trace: None,
        trace_mode: None,
    }
}

fn settled(id: u64, outcome: FinalOutcome, busy: Vec<RunRef>) -> Record {
    Record::Settled(Box::new(SettledTask {
        id: TaskId::new(id),
        outcome,
        node: Some("north".into()),
        attempts: 2,
        reroutes: 1,
        started_at: Some(Timestamp(1_500)),
        at: Timestamp(2_000),
        busy,
    }))
}

fn node(name: &str, reach: Reach, process: ProcessFact) -> NodeFact {
    NodeFact {
        name: name.into(),
        reach,
        process,
        replaced: vec![known(1), known(2)],
    }
}

fn known(incarnation: u64) -> KnownProcess {
    KnownProcess {
        incarnation: Incarnation(incarnation),
        memory: Memory(4),
        probe: Some("10.0.0.1:7".to_owned()),
        joined: true,
        lost: false,
    }
}

fn head() -> Record {
    let known = known(3);
    Record::Head(Box::new(Head {
        scheduler: "orders".into(),
        scheduler_id: SchedulerId(7),
        copied_from: Some(SchedulerId(6)),
        term: Term(1),
        at: Timestamp(999),
        set_back: SECOND,
        timing: Timing {
            heartbeat: SECOND * 2,
            lease: SECOND * 15,
            outlive: SECOND * 60,
        },
        reserved: Reserved {
            tasks: 100,
            dispatches: 100,
        },
        nodes: vec![
            node("north", Reach::Joins, ProcessFact::Known(known.clone())),
            node("here", Reach::Local, ProcessFact::None),
            node(
                "south",
                Reach::Dial("10.0.0.2:7100".to_owned()),
                ProcessFact::Removed(Some(KnownProcess {
                    lost: true,
                    ..known
                })),
            ),
        ],
        settings: vec![
            Setting::MaxWorkers(8),
            Setting::Retry(RetryPolicy::fixed(SECOND).forever()),
        ],
    }))
}

/// Returns batches with each record, and each way in which a task can stand.
fn batches() -> Vec<(Stamp, Vec<Record>)> {
    let stamp = |batch| Stamp {
        term: Term(1),
        batch,
        next_task: 20,
        next_dispatch: 30,
        at: Timestamp(1_000 + batch),
    };
    let at = SystemTime::UNIX_EPOCH + SECOND * 2_000_000_000;
    let exponential = RetryPolicy::exponential(SECOND, SECOND * 60).max_attempts(4);
    let fixed = RetryPolicy::fixed(SECOND * 3);
    let failure = Failure::new(Cause::Panic, "no such image").raised_at(Some("main.rs:7".into()));
    let changed = Changed {
        id: TaskId::new(2),
        failed_attempts: 1,
        due: Some(Timestamp(5_000)),
        over: Dispatch::new(4),
        lost: vec![process("north"), process("south")],
        lost_prefetched: Some(process("here")),
        last_failure: Some(failure.clone()),
        cancelling: true,
        orphans: vec![run(3), run(4)],
        held: Some(Dispatch::new(4)),
    };
    let first = vec![
        head(),
        accepted(1, None),
        accepted(2, Some(options(Due::After(SECOND), exponential))),
        accepted(3, Some(options(Due::At(at), fixed))),
        accepted(4, None),
        accepted(5, None),
        accepted(6, None),
        accepted(7, None),
    ];
    let runs = [(1, 11, false), (3, 12, true)].map(|(task, dispatch, prefetched)| PlacedRun {
        task: TaskId::new(task),
        dispatch: Dispatch::new(dispatch),
        prefetched,
        blocking: !prefetched,
    });
    let second = vec![
        Record::Placed {
            at: process("north"),
            runs: runs.to_vec(),
        },
        Record::Changed(Box::new(changed)),
        settled(4, FinalOutcome::Completed(vec![9; 40].into()), Vec::new()),
        settled(5, FinalOutcome::Failed(failure), vec![run(2)]),
        settled(6, FinalOutcome::Cancelled, vec![run(3)]),
        settled(7, FinalOutcome::Cancelled, Vec::new()),
    ];
    let third = vec![
        Record::Confirmed([5, 6, 7].map(TaskId::new).to_vec()),
        Record::Freed(TaskId::new(6)),
        Record::Reserved(Reserved {
            tasks: 200,
            dispatches: 300,
        }),
        Record::Node(Box::new(node("east", Reach::Joins, ProcessFact::None))),
        Record::Setting(Setting::MaxWorkers(9)),
        Record::Closed,
    ];
    vec![(stamp(1), first), (stamp(2), second), (stamp(3), third)]
}
