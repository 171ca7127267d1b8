//! How the records of the scheduler itself, of its nodes and its settings are written.
//!
//! Owns: which field stands where. Does not know: which number a record has, or tasks.

use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::options::RetryFields;
use super::{Encoder, Flaw, Name, NameTable, newer};
use crate::engine::record::{
    Head, KnownProcess, NodeFact, ProcessFact, Reserved, Setting, Term, Timing,
};
use crate::engine::{Incarnation, Memory, Reach, SchedulerId, Timestamp};
use crate::limit::{Bounds, Limit, Rate};
use crate::task::TaskKind;

#[derive(Serialize, Deserialize)]
pub(super) struct HeadFields<'a> {
    scheduler: &'a str,
    scheduler_id: u64,
    copied_from: Option<u64>,
    term: u64,
    at: u64,
    set_back: Duration,
    heartbeat: Duration,
    lease: Duration,
    outlive: Duration,
    tasks: u64,
    dispatches: u64,
    #[serde(borrow)]
    nodes: Vec<NodeFields<'a>>,
    settings: Vec<SettingFields>,
}

impl<'a> HeadFields<'a> {
    pub fn of(head: &'a Head, encoder: &mut Encoder) -> Self {
        let nodes = head.nodes.iter().map(|node| NodeFields::of(node, encoder));
        Self {
            nodes: nodes.collect(),
            scheduler: &head.scheduler,
            scheduler_id: head.scheduler_id.0,
            copied_from: head.copied_from.map(|id| id.0),
            term: head.term.0,
            at: head.at.0,
            set_back: head.set_back,
            heartbeat: head.timing.heartbeat,
            lease: head.timing.lease,
            outlive: head.timing.outlive,
            tasks: head.reserved.tasks,
            dispatches: head.reserved.dispatches,
            settings: head.settings.iter().map(SettingFields::of).collect(),
        }
    }

    pub fn read(self, names: &mut NameTable<'a>) -> Result<Head, Flaw> {
        let nodes = self.nodes.into_iter().map(|node| node.read(names));
        let settings = self.settings.into_iter().map(SettingFields::read);
        Ok(Head {
            scheduler: self.scheduler.into(),
            scheduler_id: SchedulerId(self.scheduler_id),
            copied_from: self.copied_from.map(SchedulerId),
            term: Term(self.term),
            at: Timestamp(self.at),
            set_back: self.set_back,
            timing: Timing {
                heartbeat: self.heartbeat,
                lease: self.lease,
                outlive: self.outlive,
            },
            reserved: Reserved {
                tasks: self.tasks,
                dispatches: self.dispatches,
            },
            nodes: nodes.collect::<Result<_, _>>()?,
            settings: settings.collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct NodeFields<'a> {
    #[serde(borrow)]
    name: Name<'a>,
    reach: u8,
    address: Option<&'a str>,
    process: u8,
    known: Option<KnownFields<'a>>,
    #[serde(borrow)]
    replaced: Vec<KnownFields<'a>>,
}

#[derive(Serialize, Deserialize)]
struct KnownFields<'a> {
    process: u64,
    memory: u64,
    probe: Option<&'a str>,
    joined: bool,
    lost: bool,
}

impl<'a> KnownFields<'a> {
    fn of(process: &'a KnownProcess) -> Self {
        Self {
            process: process.incarnation.0,
            memory: process.memory.0,
            probe: process.probe.as_deref(),
            joined: process.joined,
            lost: process.lost,
        }
    }

    fn read(self) -> KnownProcess {
        KnownProcess {
            incarnation: Incarnation(self.process),
            memory: Memory(self.memory),
            probe: self.probe.map(ToOwned::to_owned),
            joined: self.joined,
            lost: self.lost,
        }
    }
}

const LOCAL: u8 = 0;
const DIALLED: u8 = 1;
const JOINS: u8 = 2;

const NO_PROCESS: u8 = 0;
const KNOWN: u8 = 1;
const REMOVED: u8 = 2;

impl<'a> NodeFields<'a> {
    pub fn of(node: &'a NodeFact, encoder: &mut Encoder) -> Self {
        let (reach, address) = match &node.reach {
            Reach::Local => (LOCAL, None),
            Reach::Dial(address) => (DIALLED, Some(address.as_str())),
            Reach::Joins => (JOINS, None),
        };
        let (process, known) = match &node.process {
            ProcessFact::None => (NO_PROCESS, None),
            ProcessFact::Known(process) => (KNOWN, Some(process)),
            ProcessFact::Removed(process) => (REMOVED, process.as_ref()),
        };
        Self {
            name: encoder.name(&node.name),
            reach,
            address,
            process,
            known: known.map(KnownFields::of),
            replaced: node.replaced.iter().map(KnownFields::of).collect(),
        }
    }

    pub fn read(self, names: &mut NameTable<'a>) -> Result<NodeFact, Flaw> {
        let misfit = |what: &str| Flaw::Malformed(format!("{what} of a node that has none"));
        let known = self.known.map(KnownFields::read);
        Ok(NodeFact {
            name: names.text(self.name)?.into(),
            reach: match (self.reach, self.address) {
                (LOCAL, None) => Reach::Local,
                (DIALLED, Some(address)) => Reach::Dial(address.to_owned()),
                (JOINS, None) => Reach::Joins,
                (LOCAL..=JOINS, _) => return Err(misfit("the address")),
                (unknown, _) => return Err(newer("the way to a node", unknown)),
            },
            process: match (self.process, known) {
                (NO_PROCESS, None) => ProcessFact::None,
                (KNOWN, Some(process)) => ProcessFact::Known(process),
                (REMOVED, process) => ProcessFact::Removed(process),
                (NO_PROCESS | KNOWN, _) => return Err(misfit("the process")),
                (unknown, _) => return Err(newer("the state of a node", unknown)),
            },
            replaced: self.replaced.into_iter().map(KnownFields::read).collect(),
        })
    }
}

/// A setting: its number, then its value.
pub(super) enum SettingFields {
    MaxWorkers(u32),
    Retry(RetryFields),
    /// The kind, or none for all.
    Paused(Option<String>, bool),
    Intake(String, bool),
    Limit(String, LimitFields),
    Unknown(u8),
}

const MAX_WORKERS: u8 = 1;
const RETRY: u8 = 2;
const PAUSED: u8 = 3;
const INTAKE: u8 = 4;
const LIMIT: u8 = 5;

/// What a kind may, and each group of it.
#[derive(Serialize, Deserialize)]
pub(super) struct LimitFields {
    of_kind: BoundsFields,
    of_groups: Option<BoundsFields>,
}

/// How many at once, how many starts in so many nanoseconds, and how many of these at once.
#[derive(Serialize, Deserialize)]
pub(super) struct BoundsFields {
    concurrency: Option<u32>,
    rate: Option<(u32, u64)>,
    burst: Option<u32>,
}

impl BoundsFields {
    fn of(bounds: &Bounds) -> Self {
        let nanos = |period: Duration| u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Self {
            concurrency: bounds.concurrency,
            rate: bounds.rate.map(|rate| (rate.starts, nanos(rate.period))),
            burst: bounds.burst,
        }
    }

    fn read(&self) -> Bounds {
        Bounds {
            concurrency: self.concurrency,
            rate: self.rate.map(|(starts, period)| Rate {
                starts,
                period: Duration::from_nanos(period),
            }),
            burst: self.burst,
        }
    }
}

impl LimitFields {
    fn of(limit: &Limit) -> Self {
        Self {
            of_kind: BoundsFields::of(&limit.of_kind()),
            of_groups: limit.of_groups().as_ref().map(BoundsFields::of),
        }
    }

    fn read(&self) -> Result<Limit, Flaw> {
        let groups = self.of_groups.as_ref().map(BoundsFields::read);
        let limit = Limit::of_bounds(self.of_kind.read(), groups);
        limit.check().map_err(Flaw::Malformed)?;
        Ok(limit)
    }
}

impl SettingFields {
    pub fn of(setting: &Setting) -> Self {
        match setting {
            Setting::MaxWorkers(workers) => Self::MaxWorkers(*workers),
            Setting::Retry(retry) => Self::Retry(RetryFields::of(retry)),
            Setting::Paused(kind, paused) => {
                let kind = kind.as_ref().map(|kind| kind.as_str().to_owned());
                Self::Paused(kind, *paused)
            }
            Setting::Intake(kind, open) => Self::Intake(kind.as_str().to_owned(), *open),
            Setting::Limit(kind, limit) => {
                Self::Limit(kind.as_str().to_owned(), LimitFields::of(limit))
            }
        }
    }

    pub fn read(self) -> Result<Setting, Flaw> {
        match self {
            Self::MaxWorkers(workers) => Ok(Setting::MaxWorkers(workers)),
            Self::Retry(retry) => retry.read().map(Setting::Retry),
            Self::Paused(kind, paused) => Ok(Setting::Paused(kind.map(TaskKind::new), paused)),
            Self::Intake(kind, open) => Ok(Setting::Intake(TaskKind::new(kind), open)),
            Self::Limit(kind, limit) => Ok(Setting::Limit(TaskKind::new(kind), limit.read()?)),
            Self::Unknown(number) => Err(newer("the setting", number)),
        }
    }
}

impl Serialize for SettingFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::MaxWorkers(workers) => (MAX_WORKERS, workers).serialize(serializer),
            Self::Retry(retry) => (RETRY, retry).serialize(serializer),
            Self::Paused(kind, paused) => (PAUSED, (kind, paused)).serialize(serializer),
            Self::Intake(kind, open) => (INTAKE, (kind, open)).serialize(serializer),
            Self::Limit(kind, limit) => (LIMIT, (kind, limit)).serialize(serializer),
            Self::Unknown(number) => (number, ()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SettingFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;

        impl<'de> Visitor<'de> for Pair {
            type Value = SettingFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a setting and its value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<SettingFields, A::Error> {
                let none = || A::Error::custom("a setting without its value");
                let number: u8 = pair.next_element()?.ok_or_else(none)?;
                Ok(match number {
                    MAX_WORKERS => {
                        SettingFields::MaxWorkers(pair.next_element()?.ok_or_else(none)?)
                    }
                    RETRY => SettingFields::Retry(pair.next_element()?.ok_or_else(none)?),
                    PAUSED => {
                        let (kind, paused) = pair.next_element()?.ok_or_else(none)?;
                        SettingFields::Paused(kind, paused)
                    }
                    INTAKE => {
                        let (kind, open) = pair.next_element()?.ok_or_else(none)?;
                        SettingFields::Intake(kind, open)
                    }
                    LIMIT => {
                        let (kind, limit) = pair.next_element()?.ok_or_else(none)?;
                        SettingFields::Limit(kind, limit)
                    }
                    unknown => {
                        pair.next_element::<IgnoredAny>()?.ok_or_else(none)?;
                        SettingFields::Unknown(unknown)
                    }
                })
            }
        }

        deserializer.deserialize_seq(Pair)
    }
}
