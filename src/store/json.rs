//! Values as JSON, for people and scripts that look into a store.
//!
//! Owns: how JSON is written, what base64 is, and what a MessagePack value is in JSON. Does not
//! know: what any of it means.
//!
//! So little is written, and nothing read, that no library is needed for it.

use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How deep a value may be nested to be shown.
const MAX_DEPTH: usize = 64;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// A truth.
    Flag(bool),
    /// Values in order.
    List(Vec<Json>),
    /// Values by name, in order.
    Object(Vec<(&'static str, Json)>),
    /// JSON as it is.
    Raw(String),
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quoted(f, text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Raw(json) => f.write_str(json),
            Self::List(values) => {
                f.write_char('[')?;
                for (value, at) in values.iter().zip(0..) {
                    comma(f, at)?;
                    value.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Object(fields) => {
                f.write_char('{')?;
                for ((name, value), at) in fields.iter().zip(0..) {
                    comma(f, at)?;
                    quoted(f, name)?;
                    f.write_char(':')?;
                    value.fmt(f)?;
                }
                f.write_char('}')
            }
        }
    }
}

fn comma(to: &mut impl Write, at: usize) -> fmt::Result {
    if at > 0 { to.write_char(',') } else { Ok(()) }
}

/// Writes a text so that it stays on its line and does nothing to a terminal.
fn quoted(to: &mut impl Write, text: &str) -> fmt::Result {
    to.write_char('"')?;
    for letter in text.chars() {
        match letter {
            '"' => to.write_str("\\\"")?,
            '\\' => to.write_str("\\\\")?,
            '\n' => to.write_str("\\n")?,
            '\t' => to.write_str("\\t")?,
            '\r' => to.write_str("\\r")?,
            // All of these are below 2^16.
            other if other.is_control() || is_hidden(other) => {
                write!(to, "\\u{:04x}", other as u32)?;
            }
            other => to.write_char(other)?,
        }
    }
    to.write_char('"')
}

/// Returns whether a letter turns the direction of a text, or ends a line for some.
fn is_hidden(letter: char) -> bool {
    matches!(letter, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns bytes as base64, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            let is_there = place <= three.len();
            text.push(if is_there { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Returns a MessagePack value as JSON; `None` if the bytes are not one such value. Bytes within it
/// are base64, and what JSON has no number for is null. Names of fields that are no texts become
/// such.
pub fn of_message_pack(bytes: &[u8]) -> Option<Json> {
    let mut source = rmp_serde::Deserializer::from_read_ref(bytes);
    source.set_max_depth(MAX_DEPTH);
    let text = Text::deserialize(&mut source).ok()?;
    match IgnoredAny::deserialize(&mut source) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Some(Json::Raw(text.0)),
        _ => None,
    }
}

/// A value, written as JSON while it is read.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

fn written<E: Error>(value: impl fmt::Display) -> Result<Text, E> {
    Ok(Text(value.to_string()))
}

impl<'de> Visitor<'de> for Any {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
        written(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
        written(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
        written(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Text, E> {
        if value.is_finite() {
            written(format_args!("{value:?}"))
        } else {
            written("null")
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Text, E> {
        written(Json::Text(value.to_owned()))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Text, E> {
        written(Json::Text(base64(value)))
    }

    fn visit_unit<E: Error>(self) -> Result<Text, E> {
        written("null")
    }

    fn visit_none<E: Error>(self) -> Result<Text, E> {
        written("null")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Text, A::Error> {
        let mut text = String::from("[");
        let mut at = 0;
        while let Some(Text(value)) = values.next_element()? {
            comma(&mut text, at).map_err(A::Error::custom)?;
            text.push_str(&value);
            at += 1;
        }
        text.push(']');
        Ok(Text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Text, A::Error> {
        let mut text = String::from("{");
        let mut at = 0;
        while let Some((Text(name), Text(value))) = fields.next_entry()? {
            comma(&mut text, at).map_err(A::Error::custom)?;
            if name.starts_with('"') {
                text.push_str(&name);
            } else {
                quoted(&mut text, &name).map_err(A::Error::custom)?;
            }
            text.push(':');
            text.push_str(&value);
            at += 1;
        }
        text.push('}');
        Ok(Text(text))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    fn shown(value: &impl serde::Serialize) -> Option<String> {
        let bytes = rmp_serde::to_vec_named(value).unwrap();
        of_message_pack(&bytes).map(|json| json.to_string())
    }

    #[test]
    fn a_value_is_the_same_in_json() {
        let value = serde_json::json!({
            "text": "a \"quoted\" \\ one\nwith \u{1b}[31m, \u{202e} and \u{1f600}",
            "numbers": [0, -1, 18446744073709551615u64, 1.5, 1e300],
            "nested": [[], {}, null, true, false, {"a": [{"b": ""}]}],
        });
        let shown = shown(&value).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\n']), "{shown}");
    }

    #[test]
    fn what_json_has_not_is_shown_all_the_same() {
        assert_eq!(shown(&f64::NAN).unwrap(), "null");
        assert_eq!(
            shown(&serde_bytes::Bytes::new(b"any")).unwrap(),
            r#""YW55""#
        );
        let by_number = BTreeMap::from([(1u8, "a"), (2, "b")]);
        assert_eq!(shown(&by_number).unwrap(), r#"{"1":"a","2":"b"}"#);
    }

    #[test]
    fn what_is_not_one_whole_value_is_not_shown() {
        for bytes in [
            &b""[..],
            &[1, 2],
            &[0x92, 1],
            &[0xc1],
            &[0xff; 0][..],
            &[0x91; 100_000],
        ] {
            assert_eq!(of_message_pack(bytes), None, "{} bytes", bytes.len());
        }
        let no_text = of_message_pack(&[0xa1, 0xff]).unwrap();
        assert_eq!(no_text.to_string(), r#""/w==""#, "it is bytes");
    }

    #[test]
    fn base64_is_what_others_write() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
