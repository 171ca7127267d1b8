//! A frame as it has come, and the kinds that there are.
//!
//! Owns: the numbers of the kinds, and the errors of what cannot be encoded or decoded. Does not
//! know: what is in a frame of which kind.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::LinkError;

pub(crate) const HELLO: u8 = 1;
pub(crate) const REFUSE: u8 = 2;
pub(crate) const WELCOME: u8 = 3;
pub(crate) const ASSIGN: u8 = 4;
pub(crate) const RETRACT: u8 = 5;
pub(crate) const CANCEL: u8 = 6;
pub(crate) const ACKNOWLEDGE: u8 = 7;
pub(crate) const ANSWER: u8 = 8;
pub(crate) const WORKERS: u8 = 9;
pub(crate) const RETRY: u8 = 10;
pub(crate) const DRAIN: u8 = 11;
pub(crate) const LEAVE: u8 = 12;
pub(crate) const END: u8 = 13;
pub(crate) const WANTS: u8 = 14;
pub(crate) const HOLDING: u8 = 20;
pub(crate) const BEAT: u8 = 21;
pub(crate) const REPORTS: u8 = 22;
pub(crate) const GOODBYE: u8 = 23;

/// A frame that has come whole.
#[derive(Debug)]
pub struct Frame {
    pub(crate) kind: u8,
    pub(crate) content: BytesMut,
    /// What came before it in chunks.
    pub(crate) long: Option<Bytes>,
    pub(crate) max_body: usize,
}

impl Frame {
    pub(crate) fn unknown(&self) -> LinkError {
        LinkError::Malformed(format!("{} is no kind of frame here", self.kind))
    }
}

/// Returns the error of a message that could not be encoded. Encoding into memory fails only for
/// values that no message of ours holds; the link is then closed.
pub(crate) fn unencodable(error: rmp_serde::encode::Error) -> LinkError {
    LinkError::Malformed(format!("this side could not encode a message: {error}"))
}

/// Returns whether nothing follows in a deserializer: one more value cannot even begin.
pub(crate) fn at_end<'de, R: rmp_serde::decode::ReadSlice<'de>>(
    deserializer: &mut rmp_serde::Deserializer<R>,
) -> Result<(), LinkError> {
    match IgnoredAny::deserialize(deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(()),
        _ => Err(LinkError::Malformed("bytes after a message".to_owned())),
    }
}

pub(crate) fn malformed(error: rmp_serde::decode::Error) -> LinkError {
    LinkError::Malformed(error.to_string())
}
