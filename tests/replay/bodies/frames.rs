//! Bytes that come on a link, whatever they are.
//!
//! Owns: what must hold of the reader for any bytes. Does not know: what messages mean.

use bytes::{BufMut, BytesMut};
use callboard::__internals::engine::message::{MAX_BATCH, ToNode, ToScheduler};
use callboard::__internals::net::Wire;
use callboard::__internals::net::codec::framing::{Frames, MAX_CHUNK};
use callboard::__internals::net::codec::message::{Arrived, MessageReader};

use super::input::Input;
use super::written;

/// Small, so that its bound is met.
pub const MAX_BODY: usize = 100 << 10;

/// Decodes the input as one side or the other would. The first byte says which, and whether the
/// rest is bytes as they are, or the contents of frames to which the lengths are added.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let bytes = if mode & 2 == 0 {
        BytesMut::from(input.rest())
    } else {
        framed(&mut input)
    };
    if mode & 1 == 0 {
        judge::<ToNode>(bytes, |message| match message {
            ToNode::Assign(assignments) => assignments.len(),
            ToNode::Retract(runs) | ToNode::Cancel(runs) => runs.len(),
            _ => 0,
        });
    } else {
        judge::<ToScheduler>(bytes, |message| match message {
            ToScheduler::Reports(reports) => reports.len(),
            ToScheduler::Holding(holding) => holding.runs.len().max(holding.reports.len()),
            _ => 0,
        });
    }
}

/// Frames of the kinds and contents that the input has.
fn framed(input: &mut Input) -> BytesMut {
    let mut bytes = BytesMut::new();
    while !input.is_empty() {
        let kind = input.byte();
        let length = match input.byte() {
            // As many as a long body takes, without the input being as long.
            255 => {
                let (byte, count) = (input.byte(), usize::from(input.byte()) << 8);
                bytes.put_u32(count as u32 + 1);
                bytes.put_u8(kind);
                bytes.put_bytes(byte, count);
                continue;
            }
            254 => usize::from(input.byte()) << 4,
            length => usize::from(length),
        };
        let content = input.bytes(length);
        bytes.put_u32(content.len() as u32 + 1);
        bytes.put_u8(kind);
        bytes.put(content);
    }
    bytes
}

fn judge<M: Wire + PartialEq + std::fmt::Debug>(bytes: BytesMut, elements: fn(&M) -> usize) {
    let whole = decode::<M>(bytes.clone(), usize::MAX);
    assert_eq!(
        whole,
        decode::<M>(bytes, 7),
        "what comes in pieces is the same"
    );
    for message in &whole.0 {
        assert!(elements(message) <= MAX_BATCH);
        // What has come can be sent on, and is the same, if in more frames.
        let parts = decode_own(encode::<M>([message]));
        if let [part] = &parts[..] {
            assert_eq!(part, message);
        }
        let again: Vec<M> = decode_own(encode::<M>(&parts));
        assert_eq!(again, parts);
    }
}

/// Decodes the messages, and returns whether they ended with an error.
fn decode<M: Wire>(bytes: BytesMut, step: usize) -> (Vec<M>, bool) {
    let mut reader = MessageReader::new(MAX_BODY);
    let mut messages = Vec::new();
    let mut buffer = BytesMut::new();
    for piece in bytes.chunks(step.max(bytes.len() / 64)) {
        buffer.put(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(Arrived::Message(message))) => messages.push(message),
                Ok(Some(Arrived::Part)) => {}
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

/// Encodes these messages in frames.
fn encode<'a, M: Wire + 'a>(messages: impl IntoIterator<Item = &'a M>) -> BytesMut {
    let mut frames = Frames::new(MAX_CHUNK, MAX_BODY);
    for message in messages {
        message.encode(&mut frames).expect("within the bounds");
    }
    written(frames)
}

fn decode_own<M: Wire>(bytes: BytesMut) -> Vec<M> {
    let (messages, failed) = decode(bytes, usize::MAX);
    assert!(!failed, "this side cannot read what it wrote");
    messages
}
