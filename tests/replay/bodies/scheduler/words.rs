//! What a hostile node says.
//!
//! Owns: the messages that the input makes of what a node may know. Does not know: who hears them.

use std::time::Duration;

use callboard::__internals::engine::message::{
    Beat, End, HeldRun, HeldState, Holding, KindOffer, NodeHello, RefusedBy, Report, ToScheduler,
};
use callboard::__internals::engine::{ClientId, Event, Incarnation, Memory};
use callboard::Payload;
use callboard::error::LinkRefusal;
use callboard::status::{Cause, Failure};
use callboard::task::{Dispatch, Labels, TaskId};

use super::super::input::Input;
use super::super::node::EPOCH;

/// The names that are said, the honest node's among them.
pub const NAMES: [&str; 5] = ["evil", "worse", "dialled", "honest", ""];

/// What a node knows of its link and can say something about.
#[derive(Default)]
pub struct Knows {
    /// Runs that were assigned to it.
    pub own: Vec<(TaskId, Dispatch)>,
    /// Runs that were assigned to anybody.
    pub all: Vec<(TaskId, Dispatch)>,
    pub seq: u64,
    pub hellos: u64,
    pub beat: u64,
    pub answered: u64,
}

impl Knows {
    pub fn word(&mut self, input: &mut Input) -> ToScheduler {
        match input.below(16) {
            0 => ToScheduler::Hello(Box::new(self.hello(input))),
            1 => self.odd_hello(input),
            2 => ToScheduler::Refuse(LinkRefusal::Stopping),
            3 => self.holding(input),
            4 => ToScheduler::Goodbye,
            5 => ToScheduler::Beat(Beat {
                number: input.number(),
                answered: input.number(),
                round_trip: None,
            }),
            6 | 7 => self.next_beat(),
            _ => {
                let count = input.below(5) + 1;
                ToScheduler::Reports((0..count).map(|_| self.report(input)).collect())
            }
        }
    }

    pub fn next_beat(&mut self) -> ToScheduler {
        self.beat += 1;
        ToScheduler::Beat(Beat {
            number: self.beat,
            answered: self.answered,
            round_trip: None,
        })
    }

    /// Makes a hello that is taken.
    pub fn hello(&mut self, input: &mut Input) -> NodeHello {
        self.hellos += 1;
        let kind = |kind: &str, blocking| KindOffer {
            kind: kind.to_owned(),
            blocking,
        };
        NodeHello {
            version_min: 1,
            version_max: 1,
            node: NAMES[input.below(3)].to_owned(),
            incarnation: Incarnation(10 + input.below(3) as u64),
            memory: Memory((self.hellos / 4) % 2),
            number: self.hellos,
            seen: Dispatch::new(0),
            kinds: match input.below(4) {
                0 => vec![kind("hard", true)],
                1 => vec![kind("soft", true), kind("hard", false)],
                _ => vec![kind("soft", false), kind("hard", true)],
            },
            labels: Labels::new(),
            workers: input.number_32(),
            out_of_reach: self.hellos as u32 % 3,
            probe: match input.below(4) {
                0 => Some("5".to_owned()),
                _ => None,
            },
            address: String::new(),
            refusal_means_dead: false,
            draining: input.below(16) == 1,
            max_frame: None,
        }
    }

    fn odd_hello(&mut self, input: &mut Input) -> ToScheduler {
        let mut hello = self.hello(input);
        match input.below(8) {
            0 => hello.node = "n".repeat(input.below(256) * 2),
            1 => hello.incarnation = Incarnation(input.number()),
            2 => hello.number = input.number(),
            3 => {
                let count = input.below(8) << input.below(11);
                hello.kinds = (0..count)
                    .map(|at| KindOffer {
                        kind: at.to_string(),
                        blocking: input.bool(),
                    })
                    .collect();
            }
            4 => {
                let count = input.below(256) * 2;
                hello.labels = (0..count).map(|label| label.to_string()).collect();
            }
            5 => hello.probe = Some("p".repeat(input.below(256) * 2)),
            6 => (hello.version_min, hello.version_max) = (input.number_32(), input.number_32()),
            // As another process of the honest node.
            _ => {
                (hello.node, hello.incarnation) = (NAMES[3].to_owned(), Incarnation(input.number()))
            }
        }
        if hello.incarnation == EPOCH {
            hello.incarnation = Incarnation(0);
        }
        ToScheduler::Hello(Box::new(hello))
    }

    fn run(&self, input: &mut Input) -> (TaskId, Dispatch) {
        let odd = |input: &mut Input| (TaskId::new(input.number()), Dispatch::new(input.number()));
        let known = |input: &mut Input, of: &[_]| input.pick(of).copied();
        match input.below(8) {
            0 => odd(input),
            1 => known(input, &self.all).unwrap_or_else(|| odd(input)),
            2 => {
                let (task, _) = known(input, &self.all).unwrap_or_else(|| odd(input));
                let (_, dispatch) = known(input, &self.all).unwrap_or_else(|| odd(input));
                (task, dispatch)
            }
            _ => known(input, &self.own).unwrap_or_else(|| odd(input)),
        }
    }

    fn number(&mut self, input: &mut Input) -> u64 {
        if input.below(16) == 15 {
            return input.number();
        }
        self.seq += 1;
        self.seq
    }

    fn report(&mut self, input: &mut Input) -> Report {
        let (task, dispatch) = self.run(input);
        match input.below(16) {
            0 => Report::Started { task, dispatch },
            1..=6 => Report::Ended {
                seq: self.number(input),
                task,
                dispatch,
                end: end(input),
                ran: match input.below(4) {
                    0 => Duration::from_nanos(input.number()),
                    ms => Duration::from_millis(ms as u64),
                },
                overrun: input.below(3) == 2,
            },
            7 | 8 => Report::Freed {
                seq: self.number(input),
                task,
                dispatch,
            },
            9 | 10 => Report::Refused {
                seq: self.number(input),
                task,
                dispatch,
                reason: match input.below(5) {
                    0 => RefusedBy::NoWorker,
                    1 => RefusedBy::Draining,
                    2 => RefusedBy::KeptResults,
                    3 => RefusedBy::UnknownKind,
                    _ => RefusedBy::Lent,
                },
            },
            11 => Report::Returned {
                seq: self.number(input),
                task,
                dispatch,
            },
            12 => Report::Ready,
            13 => Report::Draining,
            14 => Report::Stalled {
                workers: input.number_32(),
                task: input.bool().then_some(task),
            },
            15 => Report::Note {
                task,
                dispatch,
                text: "half".into(),
            },
            _ => Report::Progress {
                task,
                dispatch,
                value: Payload::from(b"half"),
            },
        }
    }

    pub fn holding(&mut self, input: &mut Input) -> ToScheduler {
        let runs = (0..input.below(4)).map(|_| {
            let (task, dispatch) = self.run(input);
            HeldRun {
                task,
                dispatch,
                state: match input.below(3) {
                    0 => HeldState::Prefetched,
                    1 => HeldState::Running,
                    _ => HeldState::Overrun,
                },
            }
        });
        let runs = runs.collect();
        let odd = input.below(8) == 0;
        let reports = (0..input.below(4)).map(|_| self.report(input));
        ToScheduler::Holding(Holding {
            runs,
            reports: reports
                .filter(|report| odd || report.seq().is_some())
                .collect(),
            last: input.below(4) > 0,
        })
    }
}

fn end(input: &mut Input) -> End {
    let failure = Failure::new(Cause::Error, "no");
    match input.below(8) {
        0 => End::Failed(Box::new(failure)),
        1 => End::Again {
            after: input.duration(),
            failure: Box::new(failure),
        },
        2 => End::Stopped,
        3 => End::Dropped,
        _ => End::Completed(Payload::from(b"lie")),
    }
}

/// Tells that a client has handled all of a delivery.
pub fn confirmed(client: ClientId, delivery: u64, count: usize) -> Event {
    Event::Confirmed {
        client,
        delivery,
        handled: 0..count,
    }
}
