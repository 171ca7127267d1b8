//! Records as bytes.
//!
//! Owns: the number of each record and how a batch of them is written and read. Does not know:
//! rows, files, or what may follow what. Which field stands where is in `tasks`, `options` and
//! `scheduler`.
//!
//! A batch is a sequence of MessagePack values: the number of a record, then its fields as an
//! array. A name (a kind, a label, a node) is written out where it first occurs in the batch, and
//! by its number from then on. What a later version adds is a number that this one does not know:
//! it is not skipped, since what it says may matter, but refused as [`Flaw::Newer`].

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::record::{Record, Reserved, RetainedTask};

mod options;
mod scheduler;
mod tasks;

use scheduler::{HeadFields, NodeFields, SettingFields};
use tasks::{AcceptedFields, ChangedFields, PlacedFields, SettledFields};

/// How deep values may be nested; ours are at most 8 deep.
const MAX_DEPTH: usize = 32;

const HEAD: u8 = 1;
const RESERVED: u8 = 2;
const CLOSED: u8 = 3;
const ACCEPTED: u8 = 4;
const CHANGED: u8 = 5;
const PLACED: u8 = 6;
const SETTLED: u8 = 7;
const CONFIRMED: u8 = 8;
const FREED: u8 = 9;
const NODE: u8 = 10;
const SETTING: u8 = 11;
const RETAINED: u8 = 12;

/// Why bytes are no batch of records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A later version has written something that this one does not know.
    #[error("{0} is of a later version")]
    Newer(String),
    /// The bytes are not what any version writes.
    #[error("{0}")]
    Malformed(String),
}

impl From<rmp_serde::decode::Error> for Flaw {
    fn from(error: rmp_serde::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn newer(what: &str, number: u8) -> Flaw {
    Flaw::Newer(format!("{what} number {number}"))
}

/// A name in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name<'a> {
    Text(&'a str),
    Known(u32),
}

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Known(number) => serializer.serialize_u32(*number),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or the number of one")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name::Text(text))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Name<'de>, E> {
                u32::try_from(number).map(Name::Known).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Writes the records of one batch.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    names: HashMap<Box<str>, u32>,
}

impl Encoder {
    /// Begins a batch after these bytes, which stay before it.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            names: HashMap::new(),
        }
    }

    /// Appends a record.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Head(head) => {
                let fields = HeadFields::of(head, self);
                self.put(HEAD, &fields);
            }
            Record::Reserved(reserved) => {
                self.put(RESERVED, &(reserved.tasks, reserved.dispatches))
            }
            Record::Closed => self.put(CLOSED, &()),
            Record::Accepted(task) => {
                let fields = AcceptedFields::of(task, self);
                self.put(ACCEPTED, &fields);
            }
            Record::Changed(changed) => {
                let fields = ChangedFields::of(changed, self);
                self.put(CHANGED, &fields);
            }
            Record::Placed { at, runs } => {
                let fields = PlacedFields::of(at, runs, self);
                self.put(PLACED, &fields);
            }
            Record::Settled(settled) => {
                let fields = SettledFields::of(settled, self);
                self.put(SETTLED, &fields);
            }
            Record::Confirmed(ids) => self.put(CONFIRMED, ids),
            Record::Freed(id) => self.put(FREED, id),
            Record::Node(node) => {
                let fields = NodeFields::of(node, self);
                self.put(NODE, &fields);
            }
            Record::Setting(setting) => self.put(SETTING, &SettingFields::of(setting)),
            Record::Retained(task) => {
                let accepted = AcceptedFields::of(&task.accepted, self);
                let ending = SettledFields::of(&task.ending, self);
                self.put(RETAINED, &(accepted, ending));
            }
        }
    }

    /// Returns what was there before, and the batch.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn put(&mut self, number: u8, fields: &impl Serialize) {
        self.bytes.push(number);
        let mut serializer = rmp_serde::Serializer::new(&mut self.bytes);
        fields
            .serialize(&mut serializer)
            .expect("memory takes every value whose length is known");
    }

    /// Returns a name as it is written here.
    fn name<'a>(&mut self, text: &'a str) -> Name<'a> {
        if let Some(number) = self.names.get(text) {
            return Name::Known(*number);
        }
        // A batch of so many names is cut long before.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.insert(text.into(), number);
        Name::Text(text)
    }
}

/// The names of the batch that is read.
#[derive(Debug, Default)]
struct NameTable<'a>(Vec<&'a str>);

impl<'a> NameTable<'a> {
    fn text(&mut self, name: Name<'a>) -> Result<&'a str, Flaw> {
        match name {
            Name::Text(text) => {
                self.0.push(text);
                Ok(text)
            }
            Name::Known(number) => {
                let text = self.0.get(number as usize).copied();
                text.ok_or_else(|| Flaw::Malformed(format!("there is no name number {number}")))
            }
        }
    }
}

type Source<'a> = rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>;

/// Reads the records of one batch.
///
/// # Errors
///
/// A record, or a part of one, is of a later version, or the bytes are no batch.
pub fn decode(bytes: &[u8]) -> Result<Vec<Record>, Flaw> {
    let mut source = rmp_serde::Deserializer::from_read_ref(bytes);
    source.set_max_depth(MAX_DEPTH);
    let mut names = NameTable::default();
    let mut records = Vec::new();
    loop {
        let number = match u8::deserialize(&mut source) {
            Ok(number) => number,
            Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => return Ok(records),
            Err(error) => return Err(error.into()),
        };
        records.push(read(number, &mut source, &mut names)?);
    }
}

fn read<'a>(
    number: u8,
    source: &mut Source<'a>,
    names: &mut NameTable<'a>,
) -> Result<Record, Flaw> {
    Ok(match number {
        HEAD => Record::Head(Box::new(HeadFields::deserialize(source)?.read(names)?)),
        RESERVED => {
            let (tasks, dispatches) = plain(source)?;
            Record::Reserved(Reserved { tasks, dispatches })
        }
        CLOSED => {
            plain::<()>(source)?;
            Record::Closed
        }
        ACCEPTED => Record::Accepted(Box::new(AcceptedFields::deserialize(source)?.read(names)?)),
        CHANGED => Record::Changed(Box::new(ChangedFields::deserialize(source)?.read(names)?)),
        PLACED => {
            let (at, runs) = PlacedFields::deserialize(source)?.read(names)?;
            Record::Placed { at, runs }
        }
        SETTLED => Record::Settled(Box::new(SettledFields::deserialize(source)?.read(names)?)),
        CONFIRMED => Record::Confirmed(plain(source)?),
        FREED => Record::Freed(plain(source)?),
        NODE => Record::Node(Box::new(NodeFields::deserialize(source)?.read(names)?)),
        SETTING => Record::Setting(SettingFields::deserialize(source)?.read()?),
        RETAINED => {
            let (accepted, ending) = <(AcceptedFields, SettledFields)>::deserialize(source)?;
            Record::Retained(Box::new(RetainedTask {
                accepted: accepted.read(names)?,
                ending: ending.read(names)?,
            }))
        }
        unknown => {
            // So that damage is not taken for a later version: that too writes a value.
            IgnoredAny::deserialize(source)?;
            return Err(newer("the record", unknown));
        }
    })
}

fn plain<T: DeserializeOwned>(source: &mut Source<'_>) -> Result<T, Flaw> {
    Ok(T::deserialize(source)?)
}

#[cfg(test)]
pub(super) mod tests;
