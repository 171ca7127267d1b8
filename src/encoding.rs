//! How args, outputs and progress become bytes: MessagePack with field names, so that types may grow.
//! `bytes::Bytes` itself passes untouched, for callers with a format of their own.
//!
//! Owns: the format. Does not know: what is encoded, or where it goes.

use std::any::Any;
use std::cell::Cell;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::Payload;

/// Values up to this size are encoded in a buffer that is used again and then copied, which takes no more than one
/// allocation of the right size; larger ones keep the buffer they grew in.
const COPIED: usize = 4096;

/// How deep a value may be nested, as serde_json has it: each level takes stack, and what is decoded here comes
/// from another process.
const MAX_DEPTH: usize = 128;

/// Encodes a value.
pub(crate) fn encode<T: Serialize + 'static>(value: &T) -> Result<Payload, String> {
    if let Some(raw) = (value as &dyn Any).downcast_ref::<Bytes>() {
        return Ok(raw.clone().into());
    }
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Taken out meanwhile: an implementation of `Serialize` may encode something itself.
    let mut buffer = BUFFER.take();
    buffer.clear();
    if let Err(error) = rmp_serde::encode::write_named(&mut buffer, value) {
        BUFFER.set(buffer);
        return Err(error.to_string());
    }
    if buffer.len() > COPIED {
        return Ok(buffer.into());
    }
    let payload = Payload::from(&buffer[..]);
    BUFFER.set(buffer);
    Ok(payload)
}

/// Decodes a value.
pub(crate) fn decode<T: DeserializeOwned + 'static>(payload: &Payload) -> Result<T, String> {
    let mut decoded: Option<T> = None;
    if let Some(raw) = (&mut decoded as &mut dyn Any).downcast_mut::<Option<Bytes>>() {
        *raw = Some(payload.clone().into_bytes());
    }
    match decoded {
        Some(raw) => Ok(raw),
        None => {
            let mut deserializer = rmp_serde::Deserializer::from_read_ref(&payload[..]);
            deserializer.set_max_depth(MAX_DEPTH);
            T::deserialize(&mut deserializer).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    struct Nest(Vec<Nest>);

    fn nest(depth: usize) -> Payload {
        let mut bytes = vec![0x91; depth - 1];
        bytes.push(0x90);
        bytes.into()
    }

    #[test]
    fn g11_a_value_that_is_nested_too_deep_is_refused_before_the_stack_ends() {
        assert!(decode::<Nest>(&nest(100)).is_ok());
        for depth in [200, 1000, 1_000_000] {
            let error = decode::<Nest>(&nest(depth)).expect_err("it is too deep");
            assert!(error.contains("depth"), "{error}");
        }
    }
}
