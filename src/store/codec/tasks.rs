//! How the records of tasks are written.
//!
//! Owns: which field stands where. Does not know: which number a record has. These are values of
//! their own, so that a public type may gain a field and the form stays what it is.

use std::fmt;

use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::options::{FailureFields, OptionsFields};
use super::{Encoder, Flaw, Name, NameTable, newer};
use crate::engine::record::{
    AcceptedTask, Changed, FinalOutcome, PlacedRun, ProcessRef, RunRef, SettledTask,
};
use crate::engine::{Incarnation, Timestamp};
use crate::payload::Payload;
use crate::task::{Dispatch, Options, TaskGroup, TaskId, TaskKind};
use crate::trace::{TraceContext, TraceMode};

#[derive(Serialize, Deserialize)]
pub(super) struct AcceptedFields<'a> {
    id: u64,
    at: u64,
    #[serde(borrow)]
    kind: Name<'a>,
    args: Payload,
    options: Option<Box<OptionsFields<'a>>>,
    /// What few tasks have: each with its number.
    extensions: Vec<Extension>,
}

impl<'a> AcceptedFields<'a> {
    pub fn of(task: &'a AcceptedTask, encoder: &mut Encoder) -> Self {
        let options = task.options.as_ref();
        Self {
            id: task.id.get(),
            at: task.at.0,
            kind: encoder.name(task.kind.as_str()),
            args: task.args.clone(),
            options: options.map(|options| Box::new(OptionsFields::of(options, encoder))),
            extensions: options.map_or_else(Vec::new, |options| extensions(options)),
        }
    }

    pub fn read(self, names: &mut NameTable<'a>) -> Result<AcceptedTask, Flaw> {
        let kind = TaskKind::new(names.text(self.kind)?);
        let mut options = self
            .options
            .map(|options| options.read(names))
            .transpose()?;
        for extension in self.extensions {
            match extension {
                Extension::AgainOf(task) => {
                    options.get_or_insert_default().again_of = Some(TaskId::new(task));
                }
                Extension::Group(group) => {
                    options.get_or_insert_default().group = Some(TaskGroup::new(group));
                }
                Extension::Trace(context) => {
                    options.get_or_insert_default().trace = Some(context);
                }
                Extension::TraceMode(number) => {
                    let mode = TRACE_MODES.get(usize::from(number));
                    let mode = mode.ok_or_else(|| newer("the mode of a trace", number))?;
                    options.get_or_insert_default().trace_mode = Some(*mode);
                }
                Extension::Unread(number) => {
                    return Err(newer("the extension of a task", number));
                }
            }
        }
        Ok(AcceptedTask {
            id: TaskId::new(self.id),
            at: Timestamp(self.at),
            kind,
            args: self.args,
            options: options.map(Box::new),
        })
    }
}

fn extensions(options: &Options) -> Vec<Extension> {
    let again_of = options.again_of.map(|task| Extension::AgainOf(task.get()));
    let group = options.group.as_ref();
    let group = group.map(|group| Extension::Group(group.as_str().to_owned()));
    let trace = options.trace.clone().map(Extension::Trace);
    let mode = options.trace_mode.map(number_of);
    let mode = mode.map(Extension::TraceMode);
    again_of
        .into_iter()
        .chain(group)
        .chain(trace)
        .chain(mode)
        .collect()
}

/// What few tasks have: a number and a value.
enum Extension {
    /// The task that it repeats.
    AgainOf(u64),
    /// The group of the task.
    Group(String),
    /// The trace context of whoever handed it in.
    Trace(TraceContext),
    /// How its attempts relate to that: the place among the [`TRACE_MODES`].
    TraceMode(u8),
    /// An extension of a later version, with this number. None is written.
    Unread(u8),
}

const AGAIN_OF: u8 = 1;
const GROUP: u8 = 2;
const TRACE: u8 = 3;
const TRACE_MODE: u8 = 4;

/// The modes of a trace, by their numbers.
const TRACE_MODES: [TraceMode; 4] = [
    TraceMode::Auto,
    TraceMode::Child,
    TraceMode::Link,
    TraceMode::Off,
];

fn number_of(mode: TraceMode) -> u8 {
    match mode {
        TraceMode::Auto => 0,
        TraceMode::Child => 1,
        TraceMode::Link => 2,
        TraceMode::Off => 3,
    }
}

impl Serialize for Extension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AgainOf(task) => (AGAIN_OF, task).serialize(serializer),
            Self::Group(group) => (GROUP, group).serialize(serializer),
            Self::Trace(context) => (TRACE, context).serialize(serializer),
            Self::TraceMode(mode) => (TRACE_MODE, mode).serialize(serializer),
            Self::Unread(number) => (number, ()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, ReadExtension)
    }
}

/// Reads an [`Extension`].
struct ReadExtension;

impl<'de> Visitor<'de> for ReadExtension {
    type Value = Extension;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Extension, A::Error> {
        let missing = |at| A::Error::invalid_length(at, &"a number and a value");
        let number = seq.next_element()?.ok_or_else(|| missing(0))?;
        let read = match number {
            AGAIN_OF => seq.next_element()?.map(Extension::AgainOf),
            GROUP => seq.next_element()?.map(Extension::Group),
            TRACE => seq.next_element()?.map(Extension::Trace),
            TRACE_MODE => seq.next_element()?.map(Extension::TraceMode),
            _ => {
                let value = seq.next_element::<IgnoredAny>()?;
                value.map(|_| Extension::Unread(number))
            }
        };
        read.ok_or_else(|| missing(1))
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ChangedFields<'a> {
    id: u64,
    failed_attempts: u32,
    due: Option<u64>,
    over: u64,
    #[serde(borrow)]
    lost: Vec<ProcessFields<'a>>,
    lost_prefetched: Option<ProcessFields<'a>>,
    last_failure: Option<FailureFields<'a>>,
    cancelling: bool,
    orphans: Vec<RunFields<'a>>,
    held: Option<u64>,
}

impl<'a> ChangedFields<'a> {
    pub fn of(changed: &'a Changed, encoder: &mut Encoder) -> Self {
        let mut process = |it| ProcessFields::of(it, encoder);
        Self {
            id: changed.id.get(),
            failed_attempts: changed.failed_attempts,
            due: changed.due.map(|due| due.0),
            over: changed.over.get(),
            lost: changed.lost.iter().map(&mut process).collect(),
            lost_prefetched: changed.lost_prefetched.as_ref().map(&mut process),
            last_failure: changed.last_failure.as_ref().map(FailureFields::of),
            cancelling: changed.cancelling,
            orphans: {
                let orphans = changed.orphans.iter();
                orphans.map(|run| RunFields::of(run, encoder)).collect()
            },
            held: changed.held.map(Dispatch::get),
        }
    }

    pub fn read(self, names: &mut NameTable<'a>) -> Result<Changed, Flaw> {
        let mut process = |it: ProcessFields<'a>| it.read(names);
        Ok(Changed {
            id: TaskId::new(self.id),
            failed_attempts: self.failed_attempts,
            due: self.due.map(Timestamp),
            over: Dispatch::new(self.over),
            lost: self
                .lost
                .into_iter()
                .map(&mut process)
                .collect::<Result<_, _>>()?,
            lost_prefetched: self.lost_prefetched.map(&mut process).transpose()?,
            last_failure: self.last_failure.map(FailureFields::read).transpose()?,
            cancelling: self.cancelling,
            orphans: {
                let orphans = self.orphans.into_iter();
                orphans
                    .map(|run| run.read(names))
                    .collect::<Result<_, _>>()?
            },
            held: self.held.map(Dispatch::new),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct PlacedFields<'a> {
    #[serde(borrow)]
    at: ProcessFields<'a>,
    /// The task, the dispatch, and what is true of it by bits.
    runs: Vec<(u64, u64, u8)>,
}

const PREFETCHED: u8 = 1;
const BLOCKING: u8 = 2;

impl<'a> PlacedFields<'a> {
    pub fn of(at: &'a ProcessRef, runs: &[PlacedRun], encoder: &mut Encoder) -> Self {
        let fields = |run: &PlacedRun| {
            let prefetched = u8::from(run.prefetched) * PREFETCHED;
            let blocking = u8::from(run.blocking) * BLOCKING;
            (run.task.get(), run.dispatch.get(), prefetched | blocking)
        };
        Self {
            at: ProcessFields::of(at, encoder),
            runs: runs.iter().map(fields).collect(),
        }
    }

    pub fn read(self, names: &mut NameTable<'a>) -> Result<(ProcessRef, Vec<PlacedRun>), Flaw> {
        let run = |(task, dispatch, bits)| {
            if bits & !(PREFETCHED | BLOCKING) != 0 {
                return Err(newer("the kind of a placing", bits));
            }
            Ok(PlacedRun {
                task: TaskId::new(task),
                dispatch: Dispatch::new(dispatch),
                prefetched: bits & PREFETCHED != 0,
                blocking: bits & BLOCKING != 0,
            })
        };
        let runs = self.runs.into_iter().map(run).collect::<Result<_, _>>()?;
        Ok((self.at.read(names)?, runs))
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct SettledFields<'a> {
    id: u64,
    outcome: u8,
    output: Option<Payload>,
    #[serde(borrow)]
    failure: Option<FailureFields<'a>>,
    node: Option<Name<'a>>,
    attempts: u32,
    reroutes: u32,
    started_at: Option<u64>,
    at: u64,
    busy: Vec<RunFields<'a>>,
}

const COMPLETED: u8 = 0;
const FAILED: u8 = 1;
const CANCELLED: u8 = 2;

impl<'a> SettledFields<'a> {
    pub fn of(settled: &'a SettledTask, encoder: &mut Encoder) -> Self {
        let (outcome, output, failure) = match &settled.outcome {
            FinalOutcome::Completed(output) => (COMPLETED, Some(output.clone()), None),
            FinalOutcome::Failed(failure) => (FAILED, None, Some(FailureFields::of(failure))),
            FinalOutcome::Cancelled => (CANCELLED, None, None),
        };
        let node = settled.node.as_deref().map(|node| encoder.name(node));
        let busy = settled.busy.iter().map(|run| RunFields::of(run, encoder));
        Self {
            id: settled.id.get(),
            outcome,
            output,
            failure,
            node,
            attempts: settled.attempts,
            reroutes: settled.reroutes,
            started_at: settled.started_at.map(|at| at.0),
            at: settled.at.0,
            busy: busy.collect(),
        }
    }

    pub fn read(self, names: &mut NameTable<'a>) -> Result<SettledTask, Flaw> {
        let outcome = match (self.outcome, self.output, self.failure) {
            (COMPLETED, Some(output), None) => FinalOutcome::Completed(output),
            (FAILED, None, Some(failure)) => FinalOutcome::Failed(failure.read()?),
            (CANCELLED, None, None) => FinalOutcome::Cancelled,
            (COMPLETED | FAILED | CANCELLED, ..) => {
                return Err(Flaw::Malformed(
                    "an outcome with another's value".to_owned(),
                ));
            }
            (unknown, ..) => return Err(newer("the outcome", unknown)),
        };
        let node = self.node.map(|node| names.text(node)).transpose()?;
        let busy = self.busy.into_iter().map(|run| run.read(names));
        Ok(SettledTask {
            id: TaskId::new(self.id),
            outcome,
            node: node.map(Into::into),
            attempts: self.attempts,
            reroutes: self.reroutes,
            started_at: self.started_at.map(Timestamp),
            at: Timestamp(self.at),
            busy: busy.collect::<Result<_, _>>()?,
        })
    }
}

/// The name of a node, and the number of its process.
#[derive(Serialize, Deserialize)]
struct ProcessFields<'a>(#[serde(borrow)] Name<'a>, u64);

impl<'a> ProcessFields<'a> {
    fn of(process: &'a ProcessRef, encoder: &mut Encoder) -> Self {
        Self(encoder.name(&process.node), process.incarnation.0)
    }

    fn read(self, names: &mut NameTable<'a>) -> Result<ProcessRef, Flaw> {
        Ok(ProcessRef {
            node: names.text(self.0)?.into(),
            incarnation: Incarnation(self.1),
        })
    }
}

/// Where, the dispatch, whether it blocks, and when it has ended at the latest.
#[derive(Serialize, Deserialize)]
struct RunFields<'a>(#[serde(borrow)] ProcessFields<'a>, u64, bool, u64);

impl<'a> RunFields<'a> {
    fn of(run: &'a RunRef, encoder: &mut Encoder) -> Self {
        let at = ProcessFields::of(&run.at, encoder);
        Self(at, run.dispatch.get(), run.blocking, run.not_before.0)
    }

    fn read(self, names: &mut NameTable<'a>) -> Result<RunRef, Flaw> {
        Ok(RunRef {
            at: self.0.read(names)?,
            dispatch: Dispatch::new(self.1),
            blocking: self.2,
            not_before: Timestamp(self.3),
        })
    }
}
