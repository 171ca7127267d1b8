//! Bytes on their way out and in: frames gathered into bursts, large bodies cut into chunks and put
//! together again.
//!
//! Owns: when bytes are copied and when passed by reference, and the bounds of a frame. Does not
//! know: messages, sockets.
//!
//! On the wire a frame is a length of 4 bytes, big-endian, and so many bytes: one that says its
//! kind (see [`super::message`]) and its content. A frame whose kind has the bit [`LONG`] has its
//! body in the [`CHUNK`]s that came before it. There is one such body at a time, and between its
//! chunks only messages come that may overtake.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::LinkError;

/// The largest chunk, and the size up to which messages are gathered into one frame.
pub const MAX_CHUNK: usize = 64 << 10;
/// The largest frame on the wire: a chunk, and beside it the head of one element, of which the
/// largest is a failure with a message of 4 KiB.
pub const MAX_WIRE_FRAME: usize = MAX_CHUNK + (16 << 10);
/// The largest control message that travels in chunks: a hello with the most kinds and labels, or a
/// welcome that stops 200,000 runs. Allowed even where `max_frame` is smaller.
pub const MAX_LONG_CONTROL: usize = 2 << 20;
/// Bodies below this size are copied into the frame; a copy is then cheaper than one more slice to
/// write.
pub const COPY_BELOW: usize = 4 << 10;
/// How much is handed to the socket at once, at the next end of a frame: what a heartbeat may wait
/// behind.
pub const BURST: usize = 64 << 10;

/// When this part of the length of the body before has come, there is room for as much.
const PART: usize = 16;
/// A body may have this part of its own length as room that it does not use.
const SLACK: usize = 16;

/// The kind of a frame that holds a part of the body to come.
pub const CHUNK: u8 = 0;
/// Set in the kind of a frame whose body has come in chunks.
pub const LONG: u8 = 0x80;

/// Encoded frames that wait to be sent.
#[derive(Debug)]
pub struct Frames {
    /// The end of what waits; at rest it ends with a frame.
    tail: BytesMut,
    parts: VecDeque<Part>,
    bytes: usize,
    chunk_bytes: usize,
    max_body: usize,
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    /// Whether something else may be sent after it.
    ends_frame: bool,
}

/// Where a frame that is being written begins in the tail.
#[derive(Clone, Copy, Debug)]
pub struct FrameStart(usize);

impl Frames {
    /// Makes a list without frames. Bodies above `chunk_bytes` will be cut, those above `max_body`
    /// refused.
    pub fn new(chunk_bytes: usize, max_body: usize) -> Self {
        Self {
            tail: BytesMut::new(),
            parts: VecDeque::new(),
            bytes: 0,
            chunk_bytes: chunk_bytes.clamp(1, MAX_CHUNK),
            max_body,
        }
    }

    /// Returns how many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes + self.tail.len()
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a body of this size has to travel in chunks.
    pub fn is_long(&self, body: usize) -> bool {
        body > self.chunk_bytes
    }

    /// Begins a frame; its content is put into [`Frames::tail`].
    pub fn begin(&mut self, kind: u8) -> FrameStart {
        let begun = FrameStart(self.tail.len());
        self.tail.put_u32(0);
        self.tail.put_u8(kind);
        begun
    }

    /// Returns where the content of a begun frame is written.
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Returns how long a begun frame is so far, without its length.
    pub fn length_of(&self, begun: FrameStart) -> usize {
        self.tail.len() - begun.0 - 4
    }

    /// Writes a number of 4 bytes over what stands `offset` bytes into a begun frame's content.
    pub fn overwrite(&mut self, begun: FrameStart, offset: usize, value: u32) {
        let at = begun.0 + 5 + offset;
        self.tail[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Ends the heads of a begun frame, which `bodies` more bytes follow by [`Frames::body`].
    pub fn end_heads(&mut self, begun: FrameStart, bodies: usize) {
        let length = self.length_of(begun) + bodies;
        debug_assert!(length <= MAX_WIRE_FRAME, "a frame of {length} bytes");
        // At most MAX_WIRE_FRAME.
        self.tail[begun.0..begun.0 + 4].copy_from_slice(&(length as u32).to_be_bytes());
    }

    /// Appends a body to the frame whose heads have ended: small ones by copy, others by reference.
    pub fn body(&mut self, body: &Bytes) {
        if body.len() < COPY_BELOW {
            self.tail.extend_from_slice(body);
        } else {
            self.cut_tail(false);
            self.push(body.clone(), false);
        }
    }

    /// Ends a frame.
    pub fn end(&mut self) {
        if self.tail.is_empty() {
            if let Some(last) = self.parts.back_mut() {
                last.ends_frame = true;
            }
        } else if self.tail.len() >= BURST {
            self.cut_tail(true);
        }
    }

    /// Ends a frame whose content, all of it, is control data written to the tail; cuts it into
    /// chunks if it is too long.
    ///
    /// # Errors
    ///
    /// If it is longer than it may be at all.
    pub fn end_control(&mut self, begun: FrameStart) -> Result<(), LinkError> {
        if self.length_of(begun) <= MAX_CHUNK {
            self.end_heads(begun, 0);
            self.end();
            return Ok(());
        }
        let frame = self.tail.split_off(begun.0).freeze();
        let kind = frame[4];
        let limit = self.max_body.max(MAX_LONG_CONTROL);
        self.chunks_within(frame.slice(5..), limit)?;
        let begun = self.begin(kind | LONG);
        self.end_heads(begun, 0);
        self.end();
        Ok(())
    }

    /// Writes the chunks of a body; the frame that owns it must be the next.
    ///
    /// # Errors
    ///
    /// If the body is larger than it may be.
    pub fn chunks(&mut self, body: &Bytes) -> Result<(), LinkError> {
        self.chunks_within(body.clone(), self.max_body)
    }

    fn chunks_within(&mut self, mut body: Bytes, limit: usize) -> Result<(), LinkError> {
        if body.len() > limit {
            return Err(LinkError::FrameTooLarge {
                bytes: body.len(),
                limit,
            });
        }
        while !body.is_empty() {
            let chunk = body.split_to(self.chunk_bytes.min(body.len()));
            let begun = self.begin(CHUNK);
            self.end_heads(begun, chunk.len());
            self.body(&chunk);
            self.end();
        }
        Ok(())
    }

    /// Moves about [`BURST`] bytes of whole frames to the end of `burst`.
    pub fn take_burst(&mut self, burst: &mut Burst) {
        while let Some(part) = self.parts.pop_front() {
            self.bytes -= part.bytes.len();
            let ends_frame = part.ends_frame;
            burst.push(part.bytes);
            if ends_frame && burst.remaining() >= BURST {
                return;
            }
        }
        if !self.tail.is_empty() {
            burst.push(self.tail.split().freeze());
        }
    }

    fn cut_tail(&mut self, ends_frame: bool) {
        if !self.tail.is_empty() {
            let bytes = self.tail.split().freeze();
            self.push(bytes, ends_frame);
        }
    }

    fn push(&mut self, bytes: Bytes, ends_frame: bool) {
        self.bytes += bytes.len();
        self.parts.push_back(Part { bytes, ends_frame });
    }
}

/// Bytes in several pieces, written with one call where the transport can.
#[derive(Debug, Default)]
pub struct Burst {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Burst {
    /// Appends a piece.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.remaining += bytes.len();
            self.pieces.push_back(bytes);
        }
    }
}

impl Buf for Burst {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced beyond the end");
        self.remaining -= count;
        while let Some(front) = self.pieces.front_mut() {
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }
}

/// The body that is being put together from chunks.
#[derive(Debug)]
pub struct Assembly {
    bytes: Vec<u8>,
    /// What is missing of the chunk that has come in part.
    missing: usize,
    /// How long the last chunk is; 0 while no body is being put together.
    chunk: usize,
    /// How long the body before was.
    previous: usize,
    limit: usize,
}

impl Default for Assembly {
    fn default() -> Self {
        Self::new()
    }
}

impl Assembly {
    /// Makes an assembly of nothing yet, for at most [`MAX_LONG_CONTROL`] bytes, which is enough
    /// for a hello.
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            missing: 0,
            chunk: 0,
            previous: 0,
            limit: MAX_LONG_CONTROL,
        }
    }

    /// Allows from now on at most `limit` bytes, or [`MAX_LONG_CONTROL`] if that is more.
    pub fn allow(&mut self, limit: usize) {
        self.limit = limit.max(MAX_LONG_CONTROL);
    }

    /// Returns whether a body is being put together.
    pub fn has_begun(&self) -> bool {
        self.chunk > 0
    }

    /// Appends a chunk.
    ///
    /// # Errors
    ///
    /// If the body becomes larger than it may be, or the chunk is empty.
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), LinkError> {
        self.begin_chunk(chunk.len())?;
        self.fill(chunk);
        Ok(())
    }

    /// Begins a chunk of this length, at most [`MAX_WIRE_FRAME`]; what it consists of is to come,
    /// by [`Assembly::fill`] or [`Assembly::room`].
    ///
    /// # Errors
    ///
    /// If the body becomes larger than it may be, or the chunk is empty.
    pub fn begin_chunk(&mut self, length: usize) -> Result<(), LinkError> {
        if length == 0 {
            return Err(LinkError::Malformed("an empty chunk".to_owned()));
        }
        let bytes = self.bytes.len() + length;
        if bytes > self.limit {
            return Err(LinkError::FrameTooLarge {
                bytes,
                limit: self.limit,
            });
        }
        self.missing = length;
        self.chunk = length;
        self.make_room(bytes);
        Ok(())
    }

    /// Makes room for so many bytes. The memory grows with what has come, and with the one chunk
    /// that was claimed. But if the body may be like the one before, which has come whole, it is
    /// moved once only: when a part of it has come, so that a byte does not make room for as much
    /// as ever came.
    fn make_room(&mut self, bytes: usize) {
        if bytes > self.bytes.capacity() {
            let twice = self.bytes.len() * 2;
            let alike = if bytes >= self.previous / PART {
                self.previous
            } else {
                0
            };
            let room = bytes.max(twice).max(alike).min(self.limit);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
    }

    /// Returns how long the last chunk of the body is that is being put together; 0 if none is.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Returns what is missing of the chunk that has begun.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Takes as much of `bytes` as is missing of the chunk, and says how much that was.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = self.missing.min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        self.missing -= taken;
        taken
    }

    /// Returns where what is missing of the chunk can be read to; then [`Assembly::filled`] is to
    /// be told.
    pub fn room(&mut self) -> Limit<&mut Vec<u8>> {
        (&mut self.bytes).limit(self.missing)
    }

    /// Takes in that so many bytes were read to [`Assembly::room`].
    pub fn filled(&mut self, count: usize) {
        self.missing -= count;
    }

    /// Takes the whole body, and leaves nothing; `None` if no chunk has come.
    pub fn finish(&mut self) -> Option<Bytes> {
        if !self.has_begun() {
            return None;
        }
        self.chunk = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        self.previous = bytes.len();
        // The body may be kept for long, so the slack of its growth is given back. That may move
        // it, which a little slack is not worth.
        if bytes.capacity() - bytes.len() > bytes.len() / SLACK {
            bytes.shrink_to_fit();
        }
        Some(Bytes::from(bytes))
    }
}
