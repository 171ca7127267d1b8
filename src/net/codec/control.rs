//! The rare messages, as MessagePack maps with named fields. Unknown fields are skipped.
//!
//! Owns: their form and the bounds of what a peer may put into them, checked while they are
//! decoded. Does not know: sockets, or what the messages mean.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::BufMut;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::frame::{Frame, HELLO, REFUSE, RETRY, WELCOME, at_end, malformed, unencodable};
use super::framing::Frames;
use crate::engine::message::{
    Beat, KindOffer, MAX_BATCH, MAX_KINDS, MAX_LABELS, MAX_NAME_BYTES, NodeHello, SchedulerHello,
    Welcome, no_dispatch,
};
use crate::engine::{Incarnation, Memory, SchedulerId};
use crate::error::{LinkError, LinkRefusal};
use crate::net::text::printable;
use crate::retry::RetryPolicy;
use crate::task::{Dispatch, Labels, TaskKind};

/// How deep values may be nested. Ours are at most 5 deep; what is skipped must not exhaust the
/// stack.
const MAX_DEPTH: usize = 32;
/// The most runs that one welcome can stop: more than a node can hold.
const MAX_STOP: usize = 1 << 21;

/// Appends a message of named fields.
pub(crate) fn encode(
    frames: &mut Frames,
    kind: u8,
    fields: &impl Serialize,
) -> Result<(), LinkError> {
    let begun = frames.begin(kind);
    rmp_serde::encode::write_named(&mut frames.tail().writer(), fields).map_err(unencodable)?;
    frames.end_control(begun)
}

fn decode<T: DeserializeOwned>(frame: &Frame) -> Result<T, LinkError> {
    let content: &[u8] = match &frame.long {
        None => &frame.content,
        Some(long) if matches!(frame.kind, HELLO | WELCOME) && frame.content.is_empty() => long,
        Some(_) => {
            return Err(LinkError::Malformed(
                "chunks for a message that has none".to_owned(),
            ));
        }
    };
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(content);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut deserializer).map_err(malformed)?;
    at_end(&mut deserializer)?;
    Ok(value)
}

#[derive(Serialize, Deserialize)]
struct Number {
    number: u64,
}

pub(crate) fn encode_number(frames: &mut Frames, kind: u8, number: u64) -> Result<(), LinkError> {
    encode(frames, kind, &Number { number })
}

pub(crate) fn decode_number(frame: &Frame) -> Result<u64, LinkError> {
    decode(frame).map(|Number { number }| number)
}

#[derive(Serialize, Deserialize)]
struct Nothing {}

pub(crate) fn encode_nothing(frames: &mut Frames, kind: u8) -> Result<(), LinkError> {
    encode(frames, kind, &Nothing {})
}

pub(crate) fn decode_nothing(frame: &Frame) -> Result<(), LinkError> {
    decode(frame).map(|Nothing {}| ())
}

#[derive(Serialize)]
struct RunsOut<'a> {
    runs: &'a [Dispatch],
}

#[derive(Deserialize)]
struct RunsIn {
    #[serde(deserialize_with = "bounded::<_, _, MAX_BATCH>")]
    runs: Vec<Dispatch>,
}

/// Encodes runs in messages of at most [`MAX_BATCH`]; none at all still are one.
pub(crate) fn encode_runs(
    frames: &mut Frames,
    kind: u8,
    runs: &[Dispatch],
) -> Result<(), LinkError> {
    if runs.is_empty() {
        return encode(frames, kind, &RunsOut { runs });
    }
    runs.chunks(MAX_BATCH)
        .try_for_each(|runs| encode(frames, kind, &RunsOut { runs }))
}

pub(crate) fn decode_runs(frame: &Frame) -> Result<Vec<Dispatch>, LinkError> {
    decode(frame).map(|RunsIn { runs }| runs)
}

#[derive(Serialize, Deserialize)]
struct Policy {
    policy: RetryPolicy,
}

pub(crate) fn encode_policy(frames: &mut Frames, policy: &RetryPolicy) -> Result<(), LinkError> {
    encode(frames, RETRY, &Policy { policy: *policy })
}

pub(crate) fn decode_policy(frame: &Frame) -> Result<RetryPolicy, LinkError> {
    decode(frame).map(|Policy { policy }| policy)
}

#[derive(Serialize)]
struct RefusalOut<'a> {
    reason: &'a LinkRefusal,
    /// The reason as a sentence, for a peer that does not know its name.
    message: String,
}

#[derive(Deserialize)]
struct RefusalIn {
    reason: LinkRefusal,
}

#[derive(Deserialize)]
struct RefusalMessage {
    message: String,
}

pub(crate) fn encode_refusal(frames: &mut Frames, reason: &LinkRefusal) -> Result<(), LinkError> {
    let message = reason.to_string();
    encode(frames, REFUSE, &RefusalOut { reason, message })
}

pub(crate) fn decode_refusal(frame: &Frame) -> Result<LinkRefusal, LinkError> {
    match decode(frame) {
        Ok(RefusalIn { reason }) => legible(reason),
        Err(error) => match decode(frame) {
            Ok(RefusalMessage { message }) => Err(LinkError::Malformed(format!(
                "a refusal for a reason that this version does not know: {}",
                printable(&message)
            ))),
            Err(_) => Err(error),
        },
    }
}

/// Returns a refusal as it may be shown: what a peer says goes to logs.
fn legible(reason: LinkRefusal) -> Result<LinkRefusal, LinkError> {
    let names = match &reason {
        LinkRefusal::NameInUse { name }
        | LinkRefusal::Replaced { name }
        | LinkRefusal::NotExpected { name }
        | LinkRefusal::NotServed { name }
        | LinkRefusal::Busy { name } => [name.as_str(), ""],
        LinkRefusal::WrongName { expected, found } => [expected.as_str(), found.as_str()],
        LinkRefusal::Violation(what) => {
            return Ok(LinkRefusal::Violation(printable(what)));
        }
        LinkRefusal::NotCertified { message } => {
            return Ok(LinkRefusal::NotCertified {
                message: printable(message),
            });
        }
        LinkRefusal::Version { .. }
        | LinkRefusal::TooMany
        | LinkRefusal::TooManySchedulers { .. }
        | LinkRefusal::Superseded { .. }
        | LinkRefusal::SmallFrames { .. }
        | LinkRefusal::Stopping => ["", ""],
    };
    match names.iter().find(|name| name.len() > MAX_NAME_BYTES) {
        None => Ok(reason),
        Some(name) => Err(LinkError::Malformed(format!(
            "a refusal with a name of {} bytes, more than {MAX_NAME_BYTES}",
            name.len()
        ))),
    }
}

pub(crate) fn decode_beat(frame: &Frame) -> Result<Beat, LinkError> {
    decode(frame)
}

pub(crate) fn decode_scheduler_hello(frame: &Frame) -> Result<SchedulerHello, LinkError> {
    #[derive(Deserialize)]
    #[serde(remote = "SchedulerHello")]
    struct Bounded {
        version_min: u32,
        version_max: u32,
        #[serde(deserialize_with = "name")]
        scheduler: String,
        scheduler_id: SchedulerId,
        #[serde(default)]
        term: u64,
        #[serde(default)]
        max_frame: Option<u64>,
    }
    #[derive(Deserialize)]
    struct In(#[serde(with = "Bounded")] SchedulerHello);
    decode(frame).map(|In(message)| message)
}

pub(crate) fn decode_node_hello(frame: &Frame) -> Result<NodeHello, LinkError> {
    #[derive(Deserialize)]
    #[serde(remote = "NodeHello")]
    struct Bounded {
        version_min: u32,
        version_max: u32,
        #[serde(deserialize_with = "name")]
        node: String,
        incarnation: Incarnation,
        memory: Memory,
        number: u64,
        #[serde(default = "no_dispatch")]
        seen: Dispatch,
        #[serde(deserialize_with = "offers")]
        kinds: Vec<KindOffer>,
        #[serde(deserialize_with = "labels")]
        labels: Labels,
        workers: u32,
        #[serde(default)]
        out_of_reach: u32,
        #[serde(default, deserialize_with = "name")]
        address: String,
        #[serde(default, deserialize_with = "optional_name")]
        probe: Option<String>,
        #[serde(default)]
        refusal_means_dead: bool,
        draining: bool,
        #[serde(default)]
        max_frame: Option<u64>,
    }
    #[derive(Deserialize)]
    struct In(#[serde(with = "Bounded")] NodeHello);
    decode(frame).map(|In(message)| message)
}

pub(crate) fn decode_welcome(frame: &Frame) -> Result<Welcome, LinkError> {
    #[derive(Deserialize)]
    #[serde(remote = "Welcome")]
    struct Bounded {
        version: u32,
        heartbeat: Duration,
        lease: Duration,
        #[serde(default)]
        outlive: Duration,
        #[serde(default)]
        workers: Option<u32>,
        retry: RetryPolicy,
        acknowledged: u64,
        #[serde(deserialize_with = "bounded::<_, _, MAX_STOP>")]
        stop: Vec<Dispatch>,
        drain: bool,
    }
    #[derive(Deserialize)]
    struct In(#[serde(with = "Bounded")] Welcome);
    decode(frame).map(|In(message)| message)
}

#[derive(Deserialize)]
struct Name(#[serde(deserialize_with = "name")] String);

/// Reads a string of at most [`MAX_NAME_BYTES`] bytes.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.len() > MAX_NAME_BYTES {
        return Err(D::Error::custom(format_args!(
            "a name of {} bytes, more than {MAX_NAME_BYTES}",
            name.len()
        )));
    }
    Ok(name)
}

fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<Name>::deserialize(deserializer)?;
    Ok(name.map(|Name(name)| name))
}

fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let labels = bounded::<_, Name, MAX_LABELS>(deserializer)?;
    Ok(labels.into_iter().map(|Name(label)| label).collect())
}

fn offers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KindOffer>, D::Error> {
    let offers = bounded::<_, Offer, MAX_KINDS>(deserializer)?;
    Ok(offers.into_iter().map(|Offer(offer)| offer).collect())
}

struct Offer(KindOffer);

impl<'de> Deserialize<'de> for Offer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let offer = KindOffer::deserialize(deserializer)?;
        if offer.kind.len() > TaskKind::MAX_BYTES {
            return Err(D::Error::custom("the name of a kind is too long"));
        }
        Ok(Self(offer))
    }
}

/// Reads a vector of at most `MAX` elements. It grows with the elements that have come, whatever
/// was claimed.
fn bounded<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Elements<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = seq.next_element()? {
                if elements.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(Elements::<T, MAX>(PhantomData))
}
