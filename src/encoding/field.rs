//! One field of an encoded value, without decoding the rest.
//!
//! Owns: how a path of names is followed through maps. Does not know: who looks for what.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What lies at the end of a path of names: as text, if it is a text, a number or a truth.
pub(super) struct At<'p>(pub &'p [&'p str]);

/// The name of a field, if it is a text.
struct Name;

/// Lets every value that is no map or list through as text.
macro_rules! scalars {
    ($($visit:ident: $type:ty => $text:expr;)+) => {
        $(fn $visit<E: Error>(self, value: $type) -> Result<Self::Value, E> {
            let text: fn(&Self, $type) -> Self::Value = $text;
            Ok(text(&self, value))
        })+
    };
}

impl At<'_> {
    fn ends(&self, text: impl ToString) -> Option<String> {
        self.0.is_empty().then(|| text.to_string())
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    scalars! {
        visit_bool: bool => |it, value| it.ends(value);
        visit_i64: i64 => |it, value| it.ends(value);
        visit_u64: u64 => |it, value| it.ends(value);
        visit_f64: f64 => |it, value| it.ends(value);
        visit_str: &str => |it, value| it.ends(value);
        visit_bytes: &[u8] => |_, _| None;
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = fields.next_key_seed(Name)? {
            match self.0.split_first() {
                Some((first, rest)) if name.as_deref() == Some(*first) => {
                    found = fields.next_value_seed(At(rest))?;
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    scalars! {
        visit_bool: bool => |_, _| None;
        visit_i64: i64 => |_, _| None;
        visit_u64: u64 => |_, _| None;
        visit_str: &str => |_, name| Some(name.to_owned());
        visit_bytes: &[u8] => |_, _| None;
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
