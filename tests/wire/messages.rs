//! Any message, for proptest.

use std::time::Duration;

use callboard::__internals::engine::message::*;
use callboard::__internals::engine::{Incarnation, Memory, SchedulerId};
use callboard::Payload;
use callboard::error::LinkRefusal;
use callboard::retry::RetryPolicy;
use callboard::status::{Cause, Failure};
use callboard::task::{Dispatch, TaskId};
use callboard::trace::{TraceContext, TraceParent};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn task() -> impl Strategy<Value = TaskId> {
    any::<u64>().prop_map(TaskId::new)
}

fn dispatch() -> impl Strategy<Value = Dispatch> {
    any::<u64>().prop_map(Dispatch::new)
}

fn span() -> impl Strategy<Value = Duration> {
    (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

/// Generates mostly small bodies; now and then one that is sent by reference, and one that travels
/// in chunks.
fn body() -> impl Strategy<Value = Payload> {
    prop_oneof![
        20 => vec(any::<u8>(), 0..64).prop_map(Payload::from),
        2 => (4000..70_000usize, any::<u8>()).prop_map(|(n, b)| Payload::from(vec![b; n])),
        1 => (65_000..300_000usize, any::<u8>()).prop_map(|(n, b)| Payload::from(vec![b; n])),
    ]
}

fn policy() -> impl Strategy<Value = RetryPolicy> {
    (any::<bool>(), span(), span(), any::<u32>()).prop_map(|(fixed, a, b, attempts)| {
        let policy = if fixed {
            RetryPolicy::fixed(a)
        } else {
            RetryPolicy::exponential(a, b)
        };
        match attempts {
            0 => policy.forever(),
            attempts => policy.max_attempts(attempts),
        }
    })
}

fn refusal() -> impl Strategy<Value = LinkRefusal> {
    let name = || ".{0,20}";
    prop_oneof![
        any::<[u32; 4]>().prop_map(|[a, b, c, d]| LinkRefusal::Version {
            ours_min: a,
            ours_max: b,
            theirs_min: c,
            theirs_max: d
        }),
        name().prop_map(|name| LinkRefusal::NameInUse { name }),
        name().prop_map(|name| LinkRefusal::Replaced { name }),
        (name(), name()).prop_map(|(expected, found)| LinkRefusal::WrongName { expected, found }),
        name().prop_map(|name| LinkRefusal::NotExpected { name }),
        "[a-z ]{0,200}".prop_map(|message| LinkRefusal::NotCertified { message }),
        name().prop_map(|name| LinkRefusal::Busy { name }),
        "[a-z ]{0,200}".prop_map(LinkRefusal::Violation),
        any::<u64>().prop_map(|term| LinkRefusal::Superseded { term }),
        Just(LinkRefusal::TooMany),
        Just(LinkRefusal::Stopping),
    ]
}

fn trace() -> impl Strategy<Value = TraceParent> {
    let context = (1..u128::MAX, 1..u64::MAX, any::<u8>(), "[ -~]{0,512}");
    let context = context.prop_map(|(trace, span, flags, state)| {
        let parent = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
        TraceContext::new(&parent, &state).unwrap()
    });
    (context, any::<bool>()).prop_map(|(context, is_child)| match is_child {
        true => TraceParent::Child(context),
        false => TraceParent::Link(context),
    })
}

fn terms() -> impl Strategy<Value = Terms> {
    (
        any::<i8>(),
        option::of(span()),
        option::of(span()),
        option::of(policy()),
        any::<bool>(),
        any::<bool>(),
        option::of(trace()),
    )
        .prop_map(
            |(priority, timeout, deadline, retry, exclusive, watched, trace)| Terms {
                priority,
                timeout,
                deadline,
                retry,
                exclusive,
                watched,
                trace,
            },
        )
}

fn assignment() -> impl Strategy<Value = Assignment> {
    (
        task(),
        dispatch(),
        any::<u16>(),
        any::<u32>(),
        any::<bool>(),
        body(),
        option::of(terms().prop_map(Box::new)),
    )
        .prop_map(
            |(task, dispatch, kind, attempt, prefetched, args, terms)| Assignment {
                task,
                dispatch,
                kind,
                attempt,
                prefetched,
                args,
                terms,
            },
        )
}

fn failure() -> impl Strategy<Value = Failure> {
    let cause = prop::sample::select(vec![
        Cause::Error,
        Cause::Permanent,
        Cause::Panic,
        Cause::Timeout,
        Cause::Deadline,
        Cause::NodeLost,
        Cause::Codec,
        Cause::OutputTooLarge,
    ]);
    let place = option::of(".{0,60}");
    (cause, ".{0,60}", place).prop_map(|(cause, message, place)| {
        let mut failure = Failure::new(cause, message);
        failure.place = place.map(Into::into);
        failure
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => body().prop_map(End::Completed),
        1 => failure().prop_map(|failure| End::Failed(Box::new(failure))),
        1 => (span(), failure()).prop_map(|(after, failure)| End::Again { after, failure: Box::new(failure) }),
        1 => Just(End::Stopped),
        1 => Just(End::Dropped),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let reason = prop::sample::select(vec![
        RefusedBy::NoWorker,
        RefusedBy::Draining,
        RefusedBy::KeptResults,
        RefusedBy::UnknownKind,
        RefusedBy::Lent,
    ]);
    prop_oneof![
        (task(), dispatch()).prop_map(|(task, dispatch)| Report::Started { task, dispatch }),
        (
            any::<u64>(),
            task(),
            dispatch(),
            end(),
            any::<u64>().prop_map(Duration::from_nanos),
            any::<bool>()
        )
            .prop_map(|(seq, task, dispatch, end, ran, overrun)| Report::Ended {
                seq,
                task,
                dispatch,
                end,
                ran,
                overrun
            }),
        (any::<u64>(), task(), dispatch()).prop_map(|(seq, task, dispatch)| Report::Freed {
            seq,
            task,
            dispatch
        }),
        (any::<u64>(), task(), dispatch(), reason).prop_map(|(seq, task, dispatch, reason)| {
            Report::Refused {
                seq,
                task,
                dispatch,
                reason,
            }
        }),
        (any::<u64>(), task(), dispatch()).prop_map(|(seq, task, dispatch)| Report::Returned {
            seq,
            task,
            dispatch
        }),
        Just(Report::Ready),
        Just(Report::Draining),
        any::<u32>().prop_map(|workers| Report::Lent { workers }),
        (any::<u32>(), option::of(task()))
            .prop_map(|(workers, task)| Report::Stalled { workers, task }),
        (task(), dispatch(), ".{0,64}").prop_map(|(task, dispatch, text)| Report::Note {
            task,
            dispatch,
            text: text.into()
        }),
        (task(), dispatch(), body()).prop_map(|(task, dispatch, value)| Report::Progress {
            task,
            dispatch,
            value
        }),
    ]
}

fn held() -> impl Strategy<Value = HeldRun> {
    let state = prop::sample::select(vec![
        HeldState::Prefetched,
        HeldState::Running,
        HeldState::Overrun,
    ]);
    (task(), dispatch(), state).prop_map(|(task, dispatch, state)| HeldRun {
        task,
        dispatch,
        state,
    })
}

fn node_hello() -> impl Strategy<Value = NodeHello> {
    let offer =
        (".{0,20}", any::<bool>()).prop_map(|(kind, blocking)| KindOffer { kind, blocking });
    (
        any::<[u32; 4]>(),
        prop::array::uniform2(".{0,20}"),
        any::<[u64; 4]>(),
        vec(offer, 0..20),
        btree_set(".{0,9}", 0..9),
        option::of(".{0,20}"),
        any::<[bool; 2]>(),
        option::of(any::<u64>()),
    )
        .prop_map(
            |(
                [version_min, version_max, workers, out_of_reach],
                [node, address],
                [incarnation, memory, number, seen],
                kinds,
                labels,
                probe,
                [draining, refusal_means_dead],
                max_frame,
            )| {
                NodeHello {
                    version_min,
                    version_max,
                    node,
                    incarnation: Incarnation(incarnation),
                    memory: Memory(memory),
                    number,
                    seen: Dispatch::new(seen),
                    kinds,
                    labels,
                    workers,
                    out_of_reach,
                    address,
                    probe,
                    refusal_means_dead,
                    draining,
                    max_frame,
                }
            },
        )
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (
        any::<u32>(),
        [span(), span(), span()],
        option::of(any::<u32>()),
        policy(),
        any::<u64>(),
        vec(dispatch(), 0..50),
        any::<bool>(),
    )
        .prop_map(
            |(version, [heartbeat, lease, outlive], workers, retry, acknowledged, stop, drain)| {
                Welcome {
                    version,
                    heartbeat,
                    lease,
                    outlive,
                    workers,
                    retry,
                    acknowledged,
                    stop,
                    drain,
                }
            },
        )
}

pub fn to_node() -> impl Strategy<Value = ToNode> {
    prop_oneof![
        (
            any::<[u32; 2]>(),
            ".{0,20}",
            any::<[u64; 2]>(),
            option::of(any::<u64>())
        )
            .prop_map(
                |([version_min, version_max], scheduler, [scheduler_id, term], max_frame)| {
                    ToNode::Hello(Box::new(SchedulerHello {
                        version_min,
                        version_max,
                        scheduler,
                        scheduler_id: SchedulerId(scheduler_id),
                        term,
                        max_frame,
                    }))
                }
            ),
        welcome().prop_map(|welcome| ToNode::Welcome(Box::new(welcome))),
        refusal().prop_map(ToNode::Refuse),
        vec(assignment(), 0..20).prop_map(ToNode::Assign),
        vec(dispatch(), 0..50).prop_map(ToNode::Retract),
        vec(dispatch(), 0..50).prop_map(ToNode::Cancel),
        any::<u64>().prop_map(ToNode::Acknowledge),
        any::<u64>().prop_map(ToNode::Answer),
        any::<u32>().prop_map(ToNode::Workers),
        any::<u32>().prop_map(ToNode::Wants),
        policy().prop_map(ToNode::Retry),
        Just(ToNode::Drain),
        Just(ToNode::Leave),
        Just(ToNode::End),
    ]
}

pub fn to_scheduler() -> impl Strategy<Value = ToScheduler> {
    prop_oneof![
        node_hello().prop_map(|hello| ToScheduler::Hello(Box::new(hello))),
        refusal().prop_map(ToScheduler::Refuse),
        (vec(held(), 0..30), vec(report(), 0..20), any::<bool>()).prop_map(
            |(runs, reports, last)| ToScheduler::Holding(Holding {
                runs,
                reports,
                last
            })
        ),
        any::<([u64; 2], Option<Duration>)>().prop_map(|([number, answered], round_trip)| {
            ToScheduler::Beat(Beat {
                number,
                answered,
                round_trip,
            })
        }),
        vec(report(), 0..20).prop_map(ToScheduler::Reports),
        Just(ToScheduler::Goodbye),
    ]
}

/// Joins what is sent in several messages when it is long.
pub fn join_to_node(messages: Vec<ToNode>) -> ToNode {
    let mut messages = messages.into_iter();
    let mut joined = messages.next().expect("a message becomes at least one");
    for message in messages {
        match (&mut joined, message) {
            (ToNode::Assign(all), ToNode::Assign(more)) => all.extend(more),
            (ToNode::Cancel(all), ToNode::Cancel(more))
            | (ToNode::Retract(all), ToNode::Retract(more)) => all.extend(more),
            (joined, message) => panic!("{joined:?} and {message:?} from one message"),
        }
    }
    joined
}

/// Joins what is sent in several messages when it is long.
pub fn join_to_scheduler(messages: Vec<ToScheduler>) -> ToScheduler {
    let mut messages = messages.into_iter();
    let mut joined = messages.next().expect("a message becomes at least one");
    for message in messages {
        match (&mut joined, message) {
            (ToScheduler::Reports(all), ToScheduler::Reports(more)) => all.extend(more),
            (ToScheduler::Holding(all), ToScheduler::Holding(more)) => {
                assert!(!all.last, "only the last part may say so");
                all.runs.extend(more.runs);
                all.reports.extend(more.reports);
                all.last = more.last;
            }
            (joined, message) => panic!("{joined:?} and {message:?} from one message"),
        }
    }
    joined
}

/// Makes an assignment with these args.
pub fn assign(number: u64, args: impl Into<Payload>) -> Assignment {
    Assignment {
        task: TaskId::new(number),
        dispatch: Dispatch::new(number),
        kind: 0,
        attempt: 1,
        prefetched: true,
        args: args.into(),
        terms: None,
    }
}

/// Makes a report of success with this output.
pub fn completed(number: u64, output: impl Into<Payload>) -> Report {
    Report::Ended {
        seq: number,
        task: TaskId::new(number),
        dispatch: Dispatch::new(number),
        end: End::Completed(output.into()),
        ran: Duration::from_micros(number),
        overrun: false,
    }
}
