//! Records of all kinds, drawn at random, come back from their bytes.

use std::time::{Duration, SystemTime};

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::engine::record::Setting;
use crate::engine::record::{
    AcceptedTask, Changed, FinalOutcome, Head, KnownProcess, NodeFact, PlacedRun, ProcessFact,
    ProcessRef, RunRef, SettledTask, Term, Timing,
};
use crate::engine::{Incarnation, Memory, Reach, SchedulerId, Timestamp};
use crate::limit::Limit;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::status::{Cause, Failure};
use crate::task::{Dispatch, Due, Options, Priority, TaskGroup, TaskId, TaskKey};
use crate::trace::{TraceContext, TraceMode};

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn id() -> impl Strategy<Value = TaskId> {
    any::<u64>().prop_map(TaskId::new)
}

fn dispatch() -> impl Strategy<Value = Dispatch> {
    any::<u64>().prop_map(Dispatch::new)
}

/// Draws one of few names, so that they come again within a batch.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab]", 1 => ".{0,40}"]
}

fn span() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        9 => vec(any::<u8>(), 0..64).prop_map(Payload::from),
        1 => (0..70_000usize, any::<u8>()).prop_map(|(n, b)| Payload::from(vec![b; n])),
    ]
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    (any::<bool>(), span(), span(), option::of(1..u32::MAX)).prop_map(|(fixed, a, b, limit)| {
        let policy = if fixed {
            RetryPolicy::fixed(a)
        } else {
            RetryPolicy::exponential(a, b)
        };
        match limit {
            None => policy.forever(),
            Some(limit) => policy.max_attempts(limit),
        }
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let causes = prop::sample::select(vec![
        Cause::Error,
        Cause::Permanent,
        Cause::Panic,
        Cause::Timeout,
        Cause::Deadline,
        Cause::NodeLost,
        Cause::Codec,
        Cause::OutputTooLarge,
    ]);
    (causes, ".{0,30}", option::of(".{0,30}")).prop_map(|(cause, message, place)| {
        Failure::new(cause, message).raised_at(place.map(Into::into))
    })
}

fn due() -> impl Strategy<Value = Due> {
    prop_oneof![
        Just(Due::Now),
        span().prop_map(Due::After),
        any::<u32>().prop_map(|secs| {
            Due::At(SystemTime::UNIX_EPOCH + Duration::new(u64::from(secs), 5))
        }),
    ]
}

fn trace() -> impl Strategy<Value = TraceContext> {
    (1..u128::MAX, 1..u64::MAX, any::<u8>(), "[ -~]{0,9}").prop_map(
        |(trace, span, flags, state)| {
            let parent = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            TraceContext::new(&parent, &state).unwrap()
        },
    )
}

fn trace_mode() -> impl Strategy<Value = TraceMode> {
    prop_oneof![
        Just(TraceMode::Auto),
        Just(TraceMode::Child),
        Just(TraceMode::Link),
        Just(TraceMode::Off),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let first = (any::<i8>(), due(), option::of(span()), option::of(span()));
    let second = (option::of(retry()), btree_set(name(), 0..3), any::<bool>());
    let third = (
        option::of(any::<u32>()),
        option::of(name()),
        option::of(id()),
        option::of(name()),
    );
    let traced = (option::of(trace()), option::of(trace_mode()));
    (first, second, third, traced).prop_map(|(first, second, third, traced)| {
        let (priority, due, timeout, deadline) = first;
        let (retry, labels, exclusive) = second;
        let (max_reroutes, key, again_of, group) = third;
        let (trace, trace_mode) = traced;
        Options {
            priority: Priority(priority),
            due,
            timeout,
            deadline,
            retry,
            labels,
            exclusive,
            max_reroutes,
            key: key.map(TaskKey::new),
            again_of,
            group: group.map(TaskGroup::new),
            trace,
            trace_mode,
        }
    })
}

fn process() -> impl Strategy<Value = ProcessRef> {
    (name(), any::<u64>()).prop_map(|(node, incarnation)| ProcessRef {
        node: node.into(),
        incarnation: Incarnation(incarnation),
    })
}

fn run() -> impl Strategy<Value = RunRef> {
    (process(), dispatch(), any::<bool>(), time()).prop_map(
        |(at, dispatch, blocking, not_before)| RunRef {
            at,
            dispatch,
            blocking,
            not_before,
        },
    )
}

fn accepted() -> impl Strategy<Value = Record> {
    (id(), time(), name(), payload(), option::of(options())).prop_map(
        |(id, at, kind, args, options)| {
            Record::Accepted(Box::new(AcceptedTask {
                id,
                at,
                kind: kind.into(),
                args,
                options: options.map(Box::new),
            }))
        },
    )
}

fn changed() -> impl Strategy<Value = Record> {
    let first = (id(), any::<u32>(), option::of(time()), dispatch());
    let second = (
        vec(process(), 0..3),
        option::of(process()),
        option::of(failure()),
    );
    let third = (vec(run(), 0..3), option::of(dispatch()));
    (first, second, any::<bool>(), third).prop_map(
        |(first, second, cancelling, (orphans, held))| {
            let (id, failed_attempts, due, over) = first;
            let (lost, lost_prefetched, last_failure) = second;
            Record::Changed(Box::new(Changed {
                id,
                failed_attempts,
                due,
                over,
                lost,
                lost_prefetched,
                last_failure,
                cancelling,
                orphans,
                held,
            }))
        },
    )
}

fn settled() -> impl Strategy<Value = Record> {
    let outcome = prop_oneof![
        payload().prop_map(FinalOutcome::Completed),
        failure().prop_map(FinalOutcome::Failed),
        Just(FinalOutcome::Cancelled),
    ];
    let first = (
        id(),
        outcome,
        option::of(name()),
        any::<u32>(),
        any::<u32>(),
    );
    (first, option::of(time()), time(), vec(run(), 0..3)).prop_map(
        |(first, started_at, at, busy)| {
            let (id, outcome, node, attempts, reroutes) = first;
            Record::Settled(Box::new(SettledTask {
                id,
                outcome,
                node: node.map(Into::into),
                attempts,
                reroutes,
                started_at,
                at,
                busy,
            }))
        },
    )
}

fn known() -> impl Strategy<Value = KnownProcess> {
    (
        any::<u64>(),
        any::<u64>(),
        option::of(name()),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(incarnation, memory, probe, joined, lost)| KnownProcess {
            incarnation: Incarnation(incarnation),
            memory: Memory(memory),
            probe,
            joined,
            lost,
        })
}

fn node() -> impl Strategy<Value = NodeFact> {
    let reach = prop_oneof![
        Just(Reach::Local),
        Just(Reach::Joins),
        name().prop_map(Reach::Dial),
    ];
    (
        name(),
        reach,
        0..3u8,
        option::of(known()),
        vec(known(), 0..3),
    )
        .prop_map(|(name, reach, state, known, replaced)| NodeFact {
            name: name.into(),
            reach,
            process: match (state, known) {
                (0, Some(process)) => ProcessFact::Known(process),
                (1, process) => ProcessFact::Removed(process),
                _ => ProcessFact::None,
            },
            replaced,
        })
}

fn limit() -> impl Strategy<Value = Limit> {
    let some = || proptest::option::of(1..=u32::MAX);
    let rate = proptest::option::of((1..=u32::MAX, 1..=u64::MAX, 1..=u32::MAX));
    let one = (some(), rate).prop_map(|(concurrency, rate)| {
        let limit = concurrency.map_or_else(Limit::new, Limit::concurrency);
        rate.map_or(limit, |(starts, period, burst)| {
            limit
                .rate(starts, Duration::from_nanos(period))
                .burst(burst)
        })
    });
    (one.clone(), one).prop_map(|(of_kind, of_groups)| of_kind.each_group(of_groups))
}

fn setting() -> impl Strategy<Value = Setting> {
    prop_oneof![
        any::<u32>().prop_map(Setting::MaxWorkers),
        retry().prop_map(Setting::Retry),
        (any::<Option<String>>(), any::<bool>())
            .prop_map(|(kind, paused)| Setting::Paused(kind.map(Into::into), paused)),
        (any::<String>(), any::<bool>())
            .prop_map(|(kind, open)| Setting::Intake(kind.into(), open)),
        (any::<String>(), limit()).prop_map(|(kind, limit)| Setting::Limit(kind.into(), limit)),
    ]
}

fn reserved() -> impl Strategy<Value = Reserved> {
    (any::<u64>(), any::<u64>()).prop_map(|(tasks, dispatches)| Reserved { tasks, dispatches })
}

fn head() -> impl Strategy<Value = Record> {
    let first = (
        name(),
        any::<u64>(),
        option::of(any::<u64>()),
        any::<u64>(),
        time(),
    );
    let spans = (span(), span(), span(), span());
    (
        first,
        spans,
        reserved(),
        vec(node(), 0..3),
        vec(setting(), 0..3),
    )
        .prop_map(|(first, spans, reserved, nodes, settings)| {
            let (scheduler, scheduler_id, copied_from, term, at) = first;
            let (set_back, heartbeat, lease, outlive) = spans;
            Record::Head(Box::new(Head {
                scheduler: scheduler.into(),
                scheduler_id: SchedulerId(scheduler_id),
                copied_from: copied_from.map(SchedulerId),
                term: Term(term),
                at,
                set_back,
                timing: Timing {
                    heartbeat,
                    lease,
                    outlive,
                },
                reserved,
                nodes,
                settings,
            }))
        })
}

fn placed() -> impl Strategy<Value = Record> {
    let run = (id(), dispatch(), any::<bool>(), any::<bool>()).prop_map(
        |(task, dispatch, prefetched, blocking)| PlacedRun {
            task,
            dispatch,
            prefetched,
            blocking,
        },
    );
    (process(), vec(run, 0..4)).prop_map(|(at, runs)| Record::Placed { at, runs })
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        2 => head(),
        1 => reserved().prop_map(Record::Reserved),
        1 => Just(Record::Closed),
        6 => accepted(),
        4 => changed(),
        2 => placed(),
        4 => settled(),
        1 => vec(id(), 0..4).prop_map(Record::Confirmed),
        1 => id().prop_map(Record::Freed),
        2 => node().prop_map(|node| Record::Node(Box::new(node))),
        1 => setting().prop_map(Record::Setting),
    ]
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for record in records {
        encoder.record(record);
    }
    encoder.into_bytes()
}

proptest! {
    #[test]
    fn every_batch_comes_back_as_it_was(records in vec(record(), 0..12)) {
        prop_assert_eq!(decode(&encoded(&records)), Ok(records));
    }

    #[test]
    fn g11_a_batch_that_was_cut_short_or_changed_does_not_panic(
        records in vec(record(), 1..6),
        cut: prop::sample::Index,
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = encoded(&records);
        let length = bytes.len();
        bytes[at.index(length)] = byte;
        let _ = decode(&bytes);
        bytes.truncate(cut.index(length));
        let _ = decode(&bytes);
    }
}

/// Writes what a later version might: `number`, then fields.
fn written(number: u8, fields: impl Serialize) -> Vec<u8> {
    let mut bytes = vec![number];
    bytes.extend(rmp_serde::to_vec(&fields).unwrap());
    bytes
}

#[test]
fn what_a_later_version_adds_is_refused_as_newer_and_not_skipped() {
    let newer = |bytes: Vec<u8>| match decode(&bytes) {
        Err(Flaw::Newer(what)) => what,
        other => panic!("it was read as {other:?}"),
    };
    assert_eq!(newer(written(13, ("what", 1))), "the record number 13");
    let task = (1u64, 2u64, "kind", Payload::from(b"args"), None::<u8>);
    let (id, at, kind, args, none) = task;
    let args_again = args.clone();
    let extended = written(ACCEPTED, (id, at, kind, args, none, [(9u8, "what is new")]));
    assert_eq!(newer(extended), "the extension of a task number 9");
    let extended = written(ACCEPTED, (id, at, kind, args_again, none, [(4u8, 4u8)]));
    assert_eq!(newer(extended), "the mode of a trace number 4");
    assert_eq!(
        newer(written(SETTING, (9u8, ["any", "value"]))),
        "the setting number 9"
    );
    let settled = (
        1u64,
        7u8,
        None::<u8>,
        None::<u8>,
        None::<u8>,
        1,
        0,
        None::<u64>,
        5u64,
        [0u8; 0],
    );
    assert_eq!(newer(written(SETTLED, settled)), "the outcome number 7");
    // But what breaks off is damage.
    assert!(matches!(decode(&[13]), Err(Flaw::Malformed(_))));
    let longer = written(RESERVED, (1u64, 2u64, 3u64));
    assert!(matches!(decode(&longer), Err(Flaw::Malformed(_))));
}

#[test]
fn a_name_is_written_once_in_a_batch_and_a_task_without_options_is_small() {
    let task = |id| {
        Record::Accepted(Box::new(AcceptedTask {
            id: TaskId::new(id),
            at: Timestamp(0),
            kind: "a.kind.with.a.long.name".into(),
            args: Payload::new(),
            options: None,
        }))
    };
    let one = encoded(&[task(1)]).len();
    let two = encoded(&[task(1), task(2)]).len();
    assert!(two - one < 12, "the second takes {} bytes", two - one);
}
