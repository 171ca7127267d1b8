//! Args and outputs as a person reads them.
//!
//! Owns: how bytes become a value, and how much of them is decoded. Does not know: who may see it.

use serde_json::{Value, json};

use super::Board;
use crate::payload::Payload;
use crate::store::json::{base64, of_message_pack};
use crate::task::TaskKind;

/// Up to how many bytes are decoded: more would hold up the thread of the server.
const MAX_DECODED: usize = 256 * 1024;

/// How many bytes are shown of what cannot be decoded.
const SHOWN_RAW: usize = 256;

/// Returns a payload decoded, without what the application wants nobody to read.
pub fn redacted(board: &Board, kind: &TaskKind, payload: &Payload) -> Value {
    let mut value = decoded(payload);
    (board.redact)(kind, &mut value);
    value
}

fn decoded(payload: &Payload) -> Value {
    let known = (payload.len() <= MAX_DECODED).then(|| of_message_pack(payload));
    let json = known.flatten().map(|json| json.to_string());
    let value = json.and_then(|json| serde_json::from_str(&json).ok());
    value.unwrap_or_else(|| {
        let begin = payload.get(..SHOWN_RAW).unwrap_or(payload);
        json!({ "bytes": payload.len(), "base64": base64(begin) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_pack_or_too_large_is_shown_as_its_first_bytes() {
        let value = json!({ "customer": 42, "tags": ["a", null] });
        let args = crate::encoding::encode(&value).unwrap();
        assert_eq!(decoded(&args), value);
        let raw = Payload::from(vec![0xc1; 1000]);
        assert_eq!(decoded(&raw)["bytes"], 1000);
        assert_eq!(decoded(&raw)["base64"].as_str().unwrap().len(), 344);
        let large = Payload::from(vec![0; MAX_DECODED + 1]);
        assert_eq!(decoded(&large)["bytes"], MAX_DECODED + 1);
    }
}
