//! The frequent messages: assignments, reports, holdings.
//!
//! Owns: their form and bounds. Does not know: sockets, or what the messages mean.
//!
//! A frame's content is the length of its heads (4 bytes), the heads, and the bodies one after
//! another. Heads are MessagePack arrays without strings (but for what a failure says), whose
//! meaning is fixed by the protocol version; each that has a body ends with its length. An element
//! with a long body has a frame to itself, and the body comes before it, in chunks.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::{DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::frame::{Frame, HOLDING, at_end, malformed, unencodable};
use super::framing::{COPY_BELOW, FrameStart, Frames, LONG, MAX_CHUNK};
use crate::engine::message::{End, Holding, MAX_BATCH, Report};
use crate::error::LinkError;
use crate::payload::Payload;

/// How deep heads may be nested; ours are at most 6 deep.
const MAX_DEPTH: usize = 32;
/// MessagePack's mark of an array whose length follows in 4 bytes.
const ARRAY_32: u8 = 0xdd;
/// Heads take at least this much each, so no more elements are made room for than can have come.
const MIN_HEAD: usize = 4;

/// What is sent many at once.
pub(crate) trait Element: Sized {
    /// Appends its head.
    fn write_head(&self, tail: &mut BytesMut) -> Result<(), rmp_serde::encode::Error>;

    /// Returns its body, if its kind has one.
    fn body(&self) -> Option<&Payload>;

    /// Reads it from its head and the bodies from its own on.
    fn read<'de, A: SeqAccess<'de>>(
        fields: Fields<A>,
        bodies: &mut Bodies,
    ) -> Result<Self, A::Error>;
}

/// Counts the bytes of a report that nobody but the link holds: a progress value or a note. Outputs
/// are kept by the node until they are acknowledged, within a budget.
pub(crate) fn fleeting_bytes(report: &Report) -> usize {
    match report {
        Report::Progress { value, .. } => value.len(),
        Report::Note { text, .. } => text.len(),
        Report::Ended {
            end: End::Failed(failure) | End::Again { failure, .. },
            ..
        } => failure.message.len() + failure.place.as_ref().map_or(0, |place| place.len()),
        _ => 0,
    }
}

/// Appends elements in as many frames as they take.
pub(crate) fn encode<T: Element>(
    frames: &mut Frames,
    kind: u8,
    mut rest: &[T],
) -> Result<(), LinkError> {
    loop {
        if write_long(frames, rest)? {
            let mut frame = Writing::begin(frames, kind | LONG);
            frame.array(&rest[..1])?;
            frame.end_without_bodies();
            rest = &rest[1..];
        } else {
            let mut frame = Writing::begin(frames, kind);
            let count = frame.array(rest)?;
            frame.end(&rest[..count]);
            rest = &rest[count..];
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Appends a holding in as many frames as it takes; only the last bears its `last`.
pub(crate) fn encode_holding(frames: &mut Frames, holding: &Holding) -> Result<(), LinkError> {
    let mut runs = &holding.runs[..];
    let mut reports = &holding.reports[..];
    loop {
        let long = runs.is_empty() && write_long(frames, reports)?;
        let mut frame = Writing::begin(frames, if long { HOLDING | LONG } else { HOLDING });
        let last_at = frame.flag();
        let held = frame.array(runs)?;
        let told = match (long, held == runs.len()) {
            (true, _) => frame.array(&reports[..1])?,
            (false, true) => frame.array(reports)?,
            (false, false) => frame.array(&reports[..0])?,
        };
        let last = held == runs.len() && told == reports.len();
        frame.set_flag(last_at, last && holding.last);
        if long {
            frame.end_without_bodies();
        } else {
            frame.end(&reports[..told]);
        }
        runs = &runs[held..];
        reports = &reports[told..];
        if last {
            return Ok(());
        }
    }
}

/// Writes the chunks of the first element's body, if it is long.
fn write_long<T: Element>(frames: &mut Frames, rest: &[T]) -> Result<bool, LinkError> {
    let body = rest.first().and_then(Element::body);
    match body.and_then(Payload::shared) {
        Some(body) if frames.is_long(body.len()) => frames.chunks(body).map(|()| true),
        _ => Ok(false),
    }
}

/// A frame that is being written.
struct Writing<'a> {
    frames: &'a mut Frames,
    begun: FrameStart,
    long: bool,
    elements: usize,
    bodies: usize,
}

impl<'a> Writing<'a> {
    fn begin(frames: &'a mut Frames, kind: u8) -> Self {
        let begun = frames.begin(kind);
        frames.tail().put_u32(0);
        Self {
            frames,
            begun,
            long: kind & LONG != 0,
            elements: 0,
            bodies: 0,
        }
    }

    /// Writes a MessagePack boolean, to be set later. Returns where it is.
    fn flag(&mut self) -> usize {
        let at = self.frames.tail().len();
        self.frames.tail().put_u8(0xc2);
        at
    }

    fn set_flag(&mut self, at: usize, value: bool) {
        self.frames.tail()[at] = 0xc2 + u8::from(value);
    }

    /// Writes an array of the heads of as many elements as the frame has room for, and says how
    /// many.
    fn array<T: Element>(&mut self, elements: &[T]) -> Result<usize, LinkError> {
        let tail = self.frames.tail();
        tail.put_u8(ARRAY_32);
        let count_at = tail.len();
        tail.put_u32(0);
        let mut count: u32 = 0;
        for element in elements.iter().take(MAX_BATCH) {
            let mark = self.frames.tail().len();
            element
                .write_head(self.frames.tail())
                .map_err(unencodable)?;
            let body = element.body().map_or(0, |body| body.len());
            // The first is taken whatever its size, or nothing would ever fit.
            let full = self.elements > 0
                && self.frames.length_of(self.begun) + self.bodies + body > MAX_CHUNK;
            if !self.long && (full || self.frames.is_long(body)) {
                self.frames.tail().truncate(mark);
                break;
            }
            count += 1;
            self.elements += 1;
            self.bodies += body;
        }
        self.frames.tail()[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
        Ok(count as usize)
    }

    fn end_heads(&mut self, bodies: usize) {
        let heads = self.frames.length_of(self.begun) - 5;
        // At most MAX_WIRE_FRAME.
        self.frames.overwrite(self.begun, 0, heads as u32);
        self.frames.end_heads(self.begun, bodies);
    }

    fn end_without_bodies(mut self) {
        self.end_heads(0);
        self.frames.end();
    }

    fn end<T: Element>(mut self, elements: &[T]) {
        self.end_heads(self.bodies);
        if self.bodies > 0 {
            for body in elements.iter().filter_map(Element::body) {
                match body.shared() {
                    Some(body) => self.frames.body(body),
                    None => self.frames.tail().put_slice(body),
                }
            }
        }
        self.frames.end();
    }
}

/// The bodies of a frame, in the order of its heads.
#[derive(Debug)]
pub(crate) struct Bodies(Bytes);

impl Bodies {
    /// Takes the next body.
    pub(crate) fn take<E: serde::de::Error>(&mut self, length: u32) -> Result<Payload, E> {
        let length = length as usize;
        if length > self.0.len() {
            return Err(E::custom(format_args!(
                "a body of {length} bytes where {} are left",
                self.0.len()
            )));
        }
        Ok(Payload::split_from(&mut self.0, length))
    }
}

/// Decodes the elements of a frame.
pub(crate) fn decode<T: Element>(frame: Frame) -> Result<Vec<T>, LinkError> {
    let (heads, mut bodies) = split(frame)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(&heads[..]);
    deserializer.set_max_depth(MAX_DEPTH);
    let elements = array(&mut deserializer, &mut bodies, heads.len())?;
    at_end(&mut deserializer)?;
    none_left(&bodies)?;
    Ok(elements)
}

/// Decodes the part of a holding in a frame.
pub(crate) fn decode_holding(frame: Frame) -> Result<Holding, LinkError> {
    let (heads, mut bodies) = split(frame)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(&heads[..]);
    deserializer.set_max_depth(MAX_DEPTH);
    let last = bool::deserialize(&mut deserializer).map_err(malformed)?;
    let runs = array(&mut deserializer, &mut bodies, heads.len())?;
    let reports = array(&mut deserializer, &mut bodies, heads.len())?;
    at_end(&mut deserializer)?;
    none_left(&bodies)?;
    Ok(Holding {
        runs,
        reports,
        last,
    })
}

fn none_left(bodies: &Bodies) -> Result<(), LinkError> {
    match bodies.0.len() {
        0 => Ok(()),
        left => Err(LinkError::Malformed(format!(
            "{left} bytes of bodies that belong to nothing"
        ))),
    }
}

/// Splits a frame into its heads and its bodies. The bodies of a small frame are copied once, so
/// that one that is kept for long keeps no more than its frame; those of a larger frame are slices
/// of what was read.
fn split(frame: Frame) -> Result<(BytesMut, Bodies), LinkError> {
    let mut content = frame.content;
    if content.len() < 4 {
        return Err(LinkError::Malformed("a frame without heads".to_owned()));
    }
    let heads = content.get_u32() as usize;
    if heads > content.len() {
        return Err(LinkError::Malformed(
            "heads that are longer than their frame".to_owned(),
        ));
    }
    let heads = content.split_to(heads);
    let bodies = match frame.long {
        Some(_) if !content.is_empty() => {
            return Err(LinkError::Malformed(
                "bodies both in chunks and in the frame".to_owned(),
            ));
        }
        Some(long) if long.len() > frame.max_body => {
            return Err(LinkError::FrameTooLarge {
                bytes: long.len(),
                limit: frame.max_body,
            });
        }
        Some(long) => long,
        None if content.is_empty() => Bytes::new(),
        None if content.len() < COPY_BELOW => Bytes::copy_from_slice(&content),
        None => content.freeze(),
    };
    Ok((heads, Bodies(bodies)))
}

fn array<'de, T: Element>(
    deserializer: &mut rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'de, [u8]>>,
    bodies: &mut Bodies,
    bytes: usize,
) -> Result<Vec<T>, LinkError> {
    let visitor = Elements {
        bodies,
        bytes,
        element: PhantomData,
    };
    deserializer.deserialize_seq(visitor).map_err(malformed)
}

struct Elements<'a, T> {
    bodies: &'a mut Bodies,
    bytes: usize,
    element: PhantomData<T>,
}

impl<'de, T: Element> Visitor<'de> for Elements<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_BATCH} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let claimed = seq.size_hint().unwrap_or(0);
        if claimed > MAX_BATCH {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut elements = Vec::with_capacity(claimed.min(self.bytes / MIN_HEAD));
        while let Some(element) = seq.next_element_seed(One {
            bodies: &mut *self.bodies,
            element: PhantomData,
        })? {
            if elements.len() == MAX_BATCH {
                return Err(A::Error::custom("too many elements"));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

struct One<'a, T> {
    bodies: &'a mut Bodies,
    element: PhantomData<T>,
}

impl<'de, T: Element> DeserializeSeed<'de> for One<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Element> Visitor<'de> for One<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the head of an element")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        T::read(Fields(seq), self.bodies)
    }
}

/// The fields of a head, in order.
pub(crate) struct Fields<A>(A);

impl<'de, A: SeqAccess<'de>> Fields<A> {
    /// Reads the next field.
    pub(crate) fn next<T: Deserialize<'de>>(&mut self) -> Result<T, A::Error> {
        self.0
            .next_element()?
            .ok_or_else(|| A::Error::custom("a head with too few fields"))
    }

    /// Reads the next field, if there is one.
    pub(crate) fn optional<T: Deserialize<'de>>(&mut self) -> Result<Option<T>, A::Error> {
        self.0.next_element()
    }

    /// Reads the next field, the length of a body, and takes that body.
    pub(crate) fn body(&mut self, bodies: &mut Bodies) -> Result<Payload, A::Error> {
        let length = self.next()?;
        bodies.take(length)
    }
}

/// Room for a head without text or terms; most are written here first, since appending each of
/// their fields to the frame by itself costs more.
const COMMON_HEAD: usize = 96;

/// Writes one head.
pub(crate) fn head(
    tail: &mut BytesMut,
    fields: &impl Serialize,
) -> Result<(), rmp_serde::encode::Error> {
    let mut room = [0; COMMON_HEAD];
    let mut left = &mut room[..];
    if fields
        .serialize(&mut rmp_serde::Serializer::new(&mut left))
        .is_ok()
    {
        let length = COMMON_HEAD - left.len();
        tail.extend_from_slice(&room[..length]);
        return Ok(());
    }
    large_head(tail, fields)
}

/// Writes one head of whatever size.
pub(crate) fn large_head(
    tail: &mut BytesMut,
    fields: &impl Serialize,
) -> Result<(), rmp_serde::encode::Error> {
    fields.serialize(&mut rmp_serde::Serializer::new(tail.writer()))
}
