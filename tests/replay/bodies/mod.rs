//! What the fuzzer runs for each input, and `cargo test` for each one in the corpus.
//!
//! Owns: the bodies, one a target. Does not know: where an input comes from.

pub mod frames;
mod input;
#[cfg(feature = "store")]
pub mod log;
pub mod node;
pub mod proof;
pub mod scheduler;
mod workers;

use bytes::BytesMut;
use callboard::__internals::net::Wire;
use callboard::__internals::net::codec::framing::{Burst, Frames, MAX_CHUNK};
use callboard::__internals::net::codec::message::{Arrived, MessageReader};

use input::Input;

/// More steps find nothing that fewer do not, and cost time.
const MAX_STEPS: usize = 300;

/// Takes steps for as long as the input tells of any.
fn steps(input: &mut Input, mut step: impl FnMut(&mut Input)) {
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        step(input);
    }
}

/// Returns a message as the wire delivers it, so that a machine hears nothing that cannot come;
/// `None` if the link would be closed.
fn carried<M: Wire>(message: &M) -> Option<Vec<M>> {
    let mut frames = Frames::new(MAX_CHUNK, frames::MAX_BODY);
    message.encode(&mut frames).ok()?;
    let mut reader = MessageReader::new(frames::MAX_BODY);
    let mut buffer = written(frames);
    let mut messages = Vec::new();
    while let Some(arrived) = reader.next(&mut buffer).ok()? {
        if let Arrived::Message(message) = arrived {
            messages.push(message);
        }
    }
    Some(messages)
}

/// Returns what waits to be sent, as one.
fn written(mut frames: Frames) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut burst = Burst::default();
    while !frames.is_empty() {
        frames.take_burst(&mut burst);
        bytes::BufMut::put(&mut bytes, &mut burst);
    }
    bytes
}
