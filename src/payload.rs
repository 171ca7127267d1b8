//! Args, outputs and progress as bytes: what a task carries, of whatever size.
//!
//! Owns: where small ones are kept. Does not know: what they encode.
//!
//! Keeping small ones in place serves the bench rows `local` (1.23 times as many tasks a second as
//! without) and `pending-1M` (1.2 times), measured with and without in one run, 2026-11-28.
//! `INLINE = 0` turns it off.

use std::fmt;
use std::mem;
use std::ops::Deref;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::contain::shielded;

/// How many bytes are kept without memory of their own: with their length as much as [`Bytes`]
/// takes beside the one field that tells the two apart.
const INLINE: usize = 23;

/// How many bytes are shown at most.
const SHOWN: usize = 64;

/// Encoded args, an encoded output or progress value.
///
/// Cheap to clone. Up to 23 bytes are kept in it, so that a small task allocates nothing for them;
/// more are shared, as [`Bytes`], into which and from which it turns without a copy. It is read as
/// a slice.
///
/// ```
/// use bytes::Bytes;
/// use callboard::Payload;
///
/// let small = Payload::from(vec![1, 2, 3]);
/// assert_eq!(small[..], [1, 2, 3]);
/// let large = Bytes::from(vec![7; 1 << 20]);
/// assert_eq!(Payload::from(large.clone()).into_bytes().as_ptr(), large.as_ptr());
/// ```
#[derive(Clone)]
pub struct Payload(Kept);

#[derive(Clone)]
enum Kept {
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    /// More than [`INLINE`] bytes.
    Shared(Shared),
}

/// Bytes whose owner may be of a type of the user ([`Bytes::from_owner`]), and is then dropped with
/// the last of them, on whatever thread that is.
#[derive(Clone)]
struct Shared(Bytes);

impl Drop for Shared {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.0);
        shielded(|| drop(bytes));
    }
}

impl Payload {
    /// Makes an empty payload.
    pub const fn new() -> Self {
        Self(Kept::Inline {
            len: 0,
            bytes: [0; INLINE],
        })
    }

    /// Returns the bytes as [`Bytes`]; small ones are copied.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Kept::Inline { len, bytes } => Bytes::copy_from_slice(&bytes[..usize::from(len)]),
            Kept::Shared(mut shared) => mem::take(&mut shared.0),
        }
    }

    /// Returns the shared bytes; `None` if they are so few that they are kept in it.
    pub(crate) fn shared(&self) -> Option<&Bytes> {
        match &self.0 {
            Kept::Inline { .. } => None,
            Kept::Shared(shared) => Some(&shared.0),
        }
    }

    /// Takes the first `length` bytes, which `bytes` loses. It must have as many.
    pub(crate) fn split_from(bytes: &mut Bytes, length: usize) -> Self {
        match Self::inline(&bytes[..length]) {
            Some(payload) => {
                bytes.advance(length);
                payload
            }
            None => Self::share(bytes.split_to(length)),
        }
    }

    fn share(bytes: Bytes) -> Self {
        Self(Kept::Shared(Shared(bytes)))
    }

    /// Makes a payload of so few bytes that they are kept in it.
    fn inline(slice: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..slice.len())?.copy_from_slice(slice);
        let len = u8::try_from(slice.len()).ok()?;
        Some(Self(Kept::Inline { len, bytes }))
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Kept::Shared(shared) => &shared.0,
        }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::inline(&bytes).unwrap_or_else(|| Self::share(bytes))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::inline(&bytes).unwrap_or_else(|| Self::share(bytes.into()))
    }
}

/// Copies the bytes.
impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self::share(Bytes::copy_from_slice(bytes)))
    }
}

/// Copies the bytes.
impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Payload> for Bytes {
    fn from(payload: Payload) -> Self {
        payload.into_bytes()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As `Bytes` shows itself, but not in full: it stands in what is logged.
        match self.get(..SHOWN) {
            Some(begin) => {
                let begin = Bytes::copy_from_slice(begin);
                write!(f, "{begin:?}... ({} bytes)", self.len())
            }
            None => self.clone().into_bytes().fmt(f),
        }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bytes::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_takes_no_more_room_than_the_bytes_that_it_may_share() {
        assert_eq!(size_of::<Payload>(), size_of::<Bytes>());
    }

    #[test]
    fn every_length_comes_out_as_it_went_in() {
        for len in [0, 1, 22, 23, 24, 255, 256, 1000] {
            let slice: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let ways = [
                Payload::from(slice.clone()),
                Payload::from(&slice[..]),
                Payload::from(Bytes::from(slice.clone())),
            ];
            for payload in ways {
                assert_eq!(payload.shared().is_some(), len > INLINE);
                assert_eq!(payload.clone(), payload);
                assert_eq!(payload[..], slice);
                assert_eq!(payload.into_bytes(), slice);
            }
        }
    }

    #[test]
    fn a_large_payload_is_not_shown_in_full() {
        let show = |payload: &[u8]| format!("{:?}", Payload::from(payload));
        assert_eq!(show(b"short\0"), r#"b"short\0""#);
        assert_eq!(show(&[b'x'; 63]), format!("b{:?}", "x".repeat(63)));
        assert_eq!(
            show(&[b'x'; 1000]),
            format!("b{:?}... (1000 bytes)", "x".repeat(64))
        );
        assert!(show(&[0; 1 << 20]).len() < 300);
    }
}
