//! How args, outputs and progress become bytes: MessagePack with field names, so that types may
//! grow. `bytes::Bytes` and [`Payload`] themselves pass untouched, for callers with a format of
//! their own.
//!
//! Types that know a form for people (addresses, UUIDs, times) are written in it. Serde reads
//! flattened, tagged and untagged types from a copy of its own, which takes no other.
//!
//! Owns: the format. Does not know: what is encoded, or where it goes.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use crate::payload::Payload;

mod checked;
mod field;
#[cfg(test)]
mod tests;
mod whole;

use checked::Checked;
use whole::Flaw;

/// Values up to this size are encoded in a buffer that is used again and then copied, which takes
/// no more than one allocation of the right size; larger ones keep the buffer they grew in.
const COPIED: usize = 4096;

/// Encodes a value, and finds out if it cannot be decoded as what it is.
pub(crate) fn encode<T: Serialize + 'static>(value: &T) -> Result<Payload, String> {
    let any = value as &dyn Any;
    if let Some(raw) = any.downcast_ref::<Bytes>() {
        return Ok(raw.clone().into());
    }
    if let Some(raw) = any.downcast_ref::<Payload>() {
        return Ok(raw.clone());
    }
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Taken out meanwhile: an implementation of `Serialize` may encode something itself.
    let mut buffer = BUFFER.take();
    buffer.clear();
    if let Err(message) = write(&mut buffer, value) {
        BUFFER.set(buffer);
        return Err(message);
    }
    if buffer.len() > COPIED {
        return Ok(buffer.into());
    }
    let payload = Payload::from(&buffer[..]);
    BUFFER.set(buffer);
    Ok(payload)
}

fn write<T: Serialize>(buffer: &mut Vec<u8>, value: &T) -> Result<(), String> {
    let mut serializer = rmp_serde::Serializer::new(&mut *buffer)
        .with_struct_map()
        .with_human_readable();
    Checked::new(value, &Cell::new(false))
        .serialize(&mut serializer)
        .map_err(message)?;
    whole::check(buffer).map_err(|flaw| match flaw {
        Flaw::Deep => flaw.to_string(),
        _ => "an implementation of `Serialize` within it announces another number of elements \
              than it writes"
            .into(),
    })
}

/// Decodes a value.
pub(crate) fn decode<T: DeserializeOwned + 'static>(payload: &Payload) -> Result<T, String> {
    let mut decoded: Option<T> = None;
    if let Some(raw) = (&mut decoded as &mut dyn Any).downcast_mut::<Option<Bytes>>() {
        *raw = Some(payload.clone().into_bytes());
    }
    if let Some(raw) = (&mut decoded as &mut dyn Any).downcast_mut::<Option<Payload>>() {
        *raw = Some(payload.clone());
    }
    match decoded {
        Some(raw) => Ok(raw),
        None => {
            whole::check(payload).map_err(message)?;
            let mut deserializer =
                rmp_serde::Deserializer::from_read_ref(&payload[..]).with_human_readable();
            T::deserialize(&mut deserializer).map_err(message)
        }
    }
}

/// Returns what stands at the end of a path of field names with dots between, as text; `None` if
/// the bytes are no map in MessagePack, or nothing that has a text stands there.
pub(crate) fn field(payload: &Payload, path: &str) -> Option<String> {
    whole::check(payload).ok()?;
    let path: Vec<_> = path.split('.').collect();
    let mut deserializer =
        rmp_serde::Deserializer::from_read_ref(&payload[..]).with_human_readable();
    let found = field::At(&path).deserialize(&mut deserializer);
    found.ok().flatten()
}

/// Returns what is wrong, and what can be done about it where serde is the limit.
fn message(error: impl Display) -> String {
    let message = error.to_string();
    let hint = if message.contains("128 is not supported") {
        "within a flattened, internally tagged or untagged type serde reads no number of 128 bits; \
         write it as text"
    } else if message.contains("did not match any variant of untagged enum") {
        "serde tells no more; within an untagged type it reads no number of 128 bits"
    } else {
        return message;
    };
    format!("{message} ({hint})")
}
