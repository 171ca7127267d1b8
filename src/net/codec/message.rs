//! What the messages are as bytes, and back.
//!
//! Owns: the kinds of frames and the way from a buffer to messages. Does not know: sockets, or what
//! the messages mean.
//!
//! A frame (see [`framing`](super::framing)) begins with a number for its kind (`frame`). What
//! follows is a MessagePack map with named fields (`control`), in which unknown fields are
//! skipped, so that versions may grow; or, for the frequent messages, heads as MessagePack arrays
//! and after them the raw bodies (`bulk`).

use bytes::buf::Limit;
use bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::frame::{
    ACKNOWLEDGE, ANSWER, ASSIGN, BEAT, CANCEL, DRAIN, END, GOODBYE, HELLO, HOLDING, LEAVE, REFUSE,
    REPORTS, RETRACT, RETRY, WANTS, WELCOME, WORKERS,
};
use super::framing::{Assembly, CHUNK, Frames, LONG, MAX_WIRE_FRAME};
use super::{bulk, control};

pub use super::frame::Frame;
use crate::engine::message::{ToNode, ToScheduler};
use crate::error::LinkError;

/// What one element of a message is taken to cost while it waits to be sent, beside its body.
const ELEMENT_WEIGHT: usize = 96;

/// A message that has a form as bytes.
pub trait Wire: Sized + Send {
    /// Returns whether it is a proof of life, which may overtake all others.
    fn overtakes(&self) -> bool;

    /// Returns about how many bytes the link alone holds while this waits to be sent.
    fn weight(&self) -> usize;

    /// Returns about how many bytes it is on the wire, if it is of a kind that is worth a write of
    /// its own at once; `None` if it is not.
    fn size(&self) -> Option<usize> {
        None
    }

    /// Appends its frames: one or, if it is long, several.
    ///
    /// # Errors
    ///
    /// If it has a body that is larger than may be sent.
    fn encode(&self, frames: &mut Frames) -> Result<(), LinkError>;

    /// Returns the message in a frame. A message that was sent in several frames comes as several
    /// messages, one for each frame.
    ///
    /// # Errors
    ///
    /// If the frame is not one that `encode` could have written, or goes beyond a bound.
    fn decode(frame: Frame) -> Result<Self, LinkError>;
}

/// What was found in the bytes that have come.
#[derive(Debug, PartialEq)]
pub enum Arrived<In> {
    /// A message.
    Message(In),
    /// A part of a message.
    Part,
}

/// Takes messages out of a buffer as they become whole.
#[derive(Debug)]
pub struct MessageReader {
    codec: LengthDelimitedCodec,
    assembly: Assembly,
    max_body: usize,
}

impl MessageReader {
    /// Begins before anything has come. Bodies may have up to `max_body` bytes, but before a hello
    /// only as many as that may have: a peer that has not said who it is must not make this process
    /// hold more.
    pub fn new(max_body: usize) -> Self {
        Self {
            codec: LengthDelimitedCodec::builder()
                .length_field_type::<u32>()
                .max_frame_length(MAX_WIRE_FRAME)
                .new_codec(),
            assembly: Assembly::new(),
            max_body,
        }
    }

    /// Takes the next message or part from `buffer`; `None` if more must come first.
    ///
    /// # Errors
    ///
    /// If what has come cannot be the beginning of a frame. Nothing after it can be trusted.
    pub fn next<In: Wire>(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Arrived<In>>, LinkError> {
        if self.assembly.missing() > 0 || self.begins_chunk(buffer)? {
            let taken = self.assembly.fill(buffer);
            buffer.advance(taken);
            return Ok((self.assembly.missing() == 0).then_some(Arrived::Part));
        }
        let Some(mut content) = self.split_frame(buffer)? else {
            return Ok(None);
        };
        if content.is_empty() {
            return Err(LinkError::Malformed("a frame without a kind".to_owned()));
        }
        let kind = content.get_u8();
        if kind == CHUNK {
            self.assembly.append(&content)?;
            return Ok(Some(Arrived::Part));
        }
        let amid = self.assembly.has_begun() && kind & LONG == 0;
        let long = match kind & LONG {
            0 => None,
            _ => Some(self.assembly.finish().ok_or_else(|| {
                LinkError::Malformed("a frame whose chunks have not come".to_owned())
            })?),
        };
        let message = In::decode(Frame {
            kind: kind & !LONG,
            content,
            long,
            max_body: self.max_body,
        })?;
        if kind & !LONG == HELLO {
            self.assembly.allow(self.max_body);
        }
        if amid && !message.overtakes() {
            return Err(LinkError::Malformed(
                "a message between the chunks of another".to_owned(),
            ));
        }
        Ok(Some(Arrived::Message(message)))
    }

    /// Returns whether a chunk has come in part; what is missing of it can be read where it
    /// belongs.
    pub fn is_within_chunk(&self) -> bool {
        self.assembly.missing() > 0
    }

    /// Returns where the missing part of the chunk is to be read to. Tell
    /// [`MessageReader::filled`] afterwards.
    pub fn room(&mut self) -> Limit<&mut Vec<u8>> {
        self.assembly.room()
    }

    /// Takes note that so many bytes were read to [`MessageReader::room`].
    pub fn filled(&mut self, count: usize) {
        self.assembly.filled(count);
    }

    /// Returns how long the last chunk was, if the next frame may well be another; otherwise 0.
    pub fn last_chunk(&self) -> usize {
        self.assembly.chunk()
    }

    /// Begins a chunk whose beginning alone is in the buffer. One that is there whole is a frame
    /// like others.
    fn begins_chunk(&mut self, buffer: &mut BytesMut) -> Result<bool, LinkError> {
        match cut_frame(buffer) {
            Some(length) if buffer.get(4) == Some(&CHUNK) => {
                buffer.advance(5);
                self.assembly.begin_chunk(length - 1)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn split_frame(&mut self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, LinkError> {
        // Otherwise the codec would take its length out of the buffer, and a chunk is told by what
        // follows that.
        if cut_frame(buffer).is_some() {
            return Ok(None);
        }
        self.codec.decode(buffer).map_err(|error| {
            // The codec leaves a length that it refuses in the buffer.
            match buffer.first_chunk::<4>() {
                Some(claim) => LinkError::FrameTooLarge {
                    bytes: usize::try_from(u32::from_be_bytes(*claim)).unwrap_or(usize::MAX),
                    limit: MAX_WIRE_FRAME,
                },
                None => LinkError::Malformed(error.to_string()),
            }
        })
    }
}

/// Returns the length of the frame that begins the buffer, if that may be its length and not all of
/// it has come; 1 at least.
fn cut_frame(buffer: &BytesMut) -> Option<usize> {
    let length = u32::from_be_bytes(*buffer.first_chunk()?) as usize;
    (length <= MAX_WIRE_FRAME && buffer.len() - 4 < length).then_some(length)
}

impl Wire for ToNode {
    fn overtakes(&self) -> bool {
        matches!(self, Self::Answer(_))
    }

    fn weight(&self) -> usize {
        let elements = match self {
            Self::Assign(assignments) => assignments.len(),
            Self::Retract(dispatches) | Self::Cancel(dispatches) => dispatches.len(),
            Self::Welcome(welcome) => welcome.stop.len(),
            _ => 0,
        };
        ELEMENT_WEIGHT.saturating_mul(elements.saturating_add(1))
    }

    fn size(&self) -> Option<usize> {
        match self {
            Self::Assign(assignments) => {
                let bodies = assignments.iter().map(|assignment| assignment.args.len());
                Some(self.weight() + bodies.sum::<usize>())
            }
            Self::Retract(_) | Self::Cancel(_) | Self::Acknowledge(_) | Self::Answer(_) => {
                Some(self.weight())
            }
            // Rare ones.
            _ => None,
        }
    }

    fn encode(&self, frames: &mut Frames) -> Result<(), LinkError> {
        match self {
            Self::Assign(assignments) => bulk::encode(frames, ASSIGN, assignments),
            Self::Hello(hello) => control::encode(frames, HELLO, hello),
            Self::Welcome(welcome) => control::encode(frames, WELCOME, welcome),
            Self::Refuse(refusal) => control::encode_refusal(frames, refusal),
            Self::Retract(runs) => control::encode_runs(frames, RETRACT, runs),
            Self::Cancel(runs) => control::encode_runs(frames, CANCEL, runs),
            Self::Acknowledge(number) => control::encode_number(frames, ACKNOWLEDGE, *number),
            Self::Answer(number) => control::encode_number(frames, ANSWER, *number),
            Self::Workers(number) => control::encode_number(frames, WORKERS, (*number).into()),
            Self::Wants(number) => control::encode_number(frames, WANTS, (*number).into()),
            Self::Retry(policy) => control::encode_policy(frames, policy),
            Self::Drain => control::encode_nothing(frames, DRAIN),
            Self::Leave => control::encode_nothing(frames, LEAVE),
            Self::End => control::encode_nothing(frames, END),
        }
    }

    fn decode(frame: Frame) -> Result<Self, LinkError> {
        Ok(match frame.kind {
            ASSIGN => Self::Assign(bulk::decode(frame)?),
            HELLO => Self::Hello(Box::new(control::decode_scheduler_hello(&frame)?)),
            WELCOME => Self::Welcome(Box::new(control::decode_welcome(&frame)?)),
            REFUSE => Self::Refuse(control::decode_refusal(&frame)?),
            RETRACT => Self::Retract(control::decode_runs(&frame)?),
            CANCEL => Self::Cancel(control::decode_runs(&frame)?),
            ACKNOWLEDGE => Self::Acknowledge(control::decode_number(&frame)?),
            ANSWER => Self::Answer(control::decode_number(&frame)?),
            WORKERS => {
                let number = control::decode_number(&frame)?;
                Self::Workers(u32::try_from(number).map_err(|_| {
                    LinkError::Malformed(format!("{number} is no number of workers"))
                })?)
            }
            WANTS => {
                let number = control::decode_number(&frame)?;
                Self::Wants(u32::try_from(number).map_err(|_| {
                    LinkError::Malformed(format!("{number} is no number of tasks that wait"))
                })?)
            }
            RETRY => Self::Retry(control::decode_policy(&frame)?),
            DRAIN => control::decode_nothing(&frame).map(|()| Self::Drain)?,
            LEAVE => control::decode_nothing(&frame).map(|()| Self::Leave)?,
            END => control::decode_nothing(&frame).map(|()| Self::End)?,
            _ => return Err(frame.unknown()),
        })
    }
}

impl Wire for ToScheduler {
    fn overtakes(&self) -> bool {
        matches!(self, Self::Beat(_))
    }

    fn weight(&self) -> usize {
        let elements = match self {
            Self::Reports(reports) => reports.len(),
            Self::Holding(holding) => holding.runs.len() + holding.reports.len(),
            Self::Hello(hello) => hello.kinds.len() + hello.labels.len(),
            _ => 0,
        };
        let fleeting = match self {
            Self::Reports(reports) => reports.iter().map(bulk::fleeting_bytes).sum(),
            _ => 0,
        };
        ELEMENT_WEIGHT.saturating_mul(elements.saturating_add(1)) + fleeting
    }

    fn encode(&self, frames: &mut Frames) -> Result<(), LinkError> {
        match self {
            Self::Reports(reports) => bulk::encode(frames, REPORTS, reports),
            Self::Holding(holding) => bulk::encode_holding(frames, holding),
            Self::Beat(beat) => control::encode(frames, BEAT, beat),
            Self::Hello(hello) => control::encode(frames, HELLO, hello),
            Self::Refuse(refusal) => control::encode_refusal(frames, refusal),
            Self::Goodbye => control::encode_nothing(frames, GOODBYE),
        }
    }

    fn decode(frame: Frame) -> Result<Self, LinkError> {
        Ok(match frame.kind {
            REPORTS => Self::Reports(bulk::decode(frame)?),
            HOLDING => Self::Holding(bulk::decode_holding(frame)?),
            BEAT => Self::Beat(control::decode_beat(&frame)?),
            HELLO => Self::Hello(Box::new(control::decode_node_hello(&frame)?)),
            REFUSE => Self::Refuse(control::decode_refusal(&frame)?),
            GOODBYE => control::decode_nothing(&frame).map(|()| Self::Goodbye)?,
            _ => return Err(frame.unknown()),
        })
    }
}
