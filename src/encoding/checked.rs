//! A serializer that refuses what would be read as something else.
//!
//! Owns: the one such case that the bytes do not show, a `Some` whose content is encoded as nil and
//! would be read as `None`. Does not know: the format; what it lets through goes to the serializer
//! within it.

use std::cell::Cell;

use serde::ser::{self, Error, Serialize, Serializer};

const LOST: &str = "a `Some` of what is encoded as nothing, such as `Some(())` or `Some(None)`, \
                    would be read as `None`";
const UNREADABLE: &str = "a `serde_json::value::RawValue` can be read from JSON only";

/// How `serde_json` marks a value that only it can read.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// A value, encoded with the check.
pub(super) struct Checked<'a, T: ?Sized> {
    value: &'a T,
    nil: &'a Cell<bool>,
}

impl<'a, T: ?Sized> Checked<'a, T> {
    /// Wraps a value. `nil` is scratch: within a `Some`, whether its content was encoded as nil.
    pub(super) fn new(value: &'a T, nil: &'a Cell<bool>) -> Self {
        Self { value, nil }
    }
}

impl<T: Serialize + ?Sized> Serialize for Checked<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        let nil = self.nil;
        self.value.serialize(Checking { inner, nil })
    }
}

struct Checking<'a, S> {
    inner: S,
    nil: &'a Cell<bool>,
}

impl<'a, S> Checking<'a, S> {
    fn parts<P, E>(self, begin: impl FnOnce(S) -> Result<P, E>) -> Result<Parts<'a, P>, E> {
        let nil = self.nil;
        begin(self.inner).map(|inner| Parts { inner, nil })
    }
}

macro_rules! pass {
    ($($method:ident($($value:ident: $type:ty),*);)*) => {
        $(fn $method(self, $($value: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($value),*)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Checking<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'a, S::SerializeSeq>;
    type SerializeTuple = Parts<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'a, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'a, S::SerializeMap>;
    type SerializeStruct = Parts<'a, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'a, S::SerializeStructVariant>;

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    pass! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.nil.set(true);
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.nil.set(true);
        self.inner.serialize_unit()
    }

    /// Encodes as `()`: rmp-serde would write an empty list, which serde does not read in an
    /// untagged type.
    fn serialize_unit_struct(self, _: &'static str) -> Result<S::Ok, S::Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let nil = self.nil;
        nil.set(false);
        let written = self.inner.serialize_some(&Checked { value, nil })?;
        match nil.get() {
            true => Err(S::Error::custom(LOST)),
            false => Ok(written),
        }
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let nil = self.nil;
        self.inner
            .serialize_newtype_struct(name, &Checked { value, nil })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let nil = self.nil;
        let value = Checked { value, nil };
        let written = self
            .inner
            .serialize_newtype_variant(name, index, variant, &value);
        nil.set(false);
        written
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.parts(|inner| inner.serialize_seq(len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.parts(|inner| inner.serialize_tuple(len))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.parts(|inner| inner.serialize_tuple_struct(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.parts(|inner| inner.serialize_tuple_variant(name, index, variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.parts(|inner| inner.serialize_map(len))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        if name == RAW_VALUE {
            return Err(S::Error::custom(UNREADABLE));
        }
        self.parts(|inner| inner.serialize_struct(name, len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.parts(|inner| inner.serialize_struct_variant(name, index, variant, len))
    }
}

/// A value of many parts, which is never nil itself, whatever its parts are.
struct Parts<'a, P> {
    inner: P,
    nil: &'a Cell<bool>,
}

impl<'a, P> Parts<'a, P> {
    fn part<'b, T: ?Sized>(&self, value: &'b T) -> Checked<'b, T>
    where
        'a: 'b,
    {
        Checked {
            value,
            nil: self.nil,
        }
    }
}

macro_rules! parts {
    ($($part:ident: $($method:ident($($key:ident)?))+;)*) => {
        $(impl<P: ser::$part> ser::$part for Parts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            $(fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), P::Error> {
                let value = self.part(value);
                self.inner.$method($($key,)? &value)
            })+

            fn end(self) -> Result<P::Ok, P::Error> {
                self.nil.set(false);
                self.inner.end()
            }
        })*
    };
}

parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key() serialize_value();
    SerializeStruct: serialize_field(key);
    SerializeStructVariant: serialize_field(key);
}
