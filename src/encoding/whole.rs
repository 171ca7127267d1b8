//! Whether bytes are one MessagePack value, whole and alone.
//!
//! Owns: the walk over the bytes. Does not know: which type they are read as.

use std::fmt;

/// How deep a value may be nested, as serde_json has it: each level takes stack, and what is
/// decoded comes from another process.
const MAX_DEPTH: usize = 128;

/// What keeps bytes from being one value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Missing,
    Cut,
    Left(usize),
    Deep,
    Reserved,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there are no bytes; even `()` is encoded as one"),
            Self::Cut => f.write_str("the bytes end before the value does"),
            Self::Left(1) => f.write_str("1 byte is left after the value"),
            Self::Left(count) => write!(f, "{count} bytes are left after the value"),
            Self::Deep => write!(
                f,
                "the value is nested deeper than the depth of {MAX_DEPTH} levels"
            ),
            Self::Reserved => f.write_str("the byte 0xc1 begins no MessagePack value"),
        }
    }
}

/// Checks that `bytes` are one value and nothing else.
///
/// A decoder may then rely on it that lengths are true, and that the depth is bounded: rmp-serde
/// itself bounds that of arrays and maps, but not that of enums within enums.
#[inline]
pub(super) fn check(bytes: &[u8]) -> Result<(), Flaw> {
    match bytes {
        [] => Err(Flaw::Missing),
        // What most small tasks carry needs no walk.
        [0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff]
        | [0xcc | 0xd0, _]
        | [0xcd | 0xd1, _, _]
        | [0xca | 0xce | 0xd2, _, _, _, _]
        | [0xcb | 0xcf | 0xd3, _, _, _, _, _, _, _, _] => Ok(()),
        _ => walk(bytes),
    }
}

fn walk(mut bytes: &[u8]) -> Result<(), Flaw> {
    skip(&mut bytes, MAX_DEPTH)?;
    match bytes.len() {
        0 => Ok(()),
        left => Err(Flaw::Left(left)),
    }
}

/// Takes one value from the front. See the MessagePack specification, "Formats".
fn skip(bytes: &mut &[u8], depth: usize) -> Result<(), Flaw> {
    let marker = take(bytes, 1)?[0];
    let (data, elements) = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
        0x80..=0x8f => (0, 2 * usize::from(marker & 0x0f)),
        0x90..=0x9f => (0, usize::from(marker & 0x0f)),
        0xa0..=0xbf => (usize::from(marker & 0x1f), 0),
        0xc1 => return Err(Flaw::Reserved),
        0xc4 | 0xd9 => (number(bytes, 1)?, 0),
        0xc5 | 0xda => (number(bytes, 2)?, 0),
        0xc6 | 0xdb => (number(bytes, 4)?, 0),
        // An extension has a byte for its type.
        0xc7 => (1 + number(bytes, 1)?, 0),
        0xc8 => (1 + number(bytes, 2)?, 0),
        0xc9 => (number(bytes, 4)?.saturating_add(1), 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 | 0xd4 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd5 => (3, 0),
        0xd6 => (5, 0),
        0xd7 => (9, 0),
        0xd8 => (17, 0),
        0xdc => (0, number(bytes, 2)?),
        0xdd => (0, number(bytes, 4)?),
        0xde => (0, 2 * number(bytes, 2)?),
        0xdf => (0, number(bytes, 4)?.saturating_mul(2)),
    };
    take(bytes, data)?;
    if elements > 0 {
        let depth = depth.checked_sub(1).ok_or(Flaw::Deep)?;
        for _ in 0..elements {
            skip(bytes, depth)?;
        }
    }
    Ok(())
}

/// Takes a number of this many bytes, big-endian.
fn number(bytes: &mut &[u8], length: usize) -> Result<usize, Flaw> {
    let digits = take(bytes, length)?;
    Ok(digits
        .iter()
        .fold(0, |number, digit| number << 8 | usize::from(*digit)))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Flaw> {
    bytes.split_off(..length).ok_or(Flaw::Cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each format, as rmp-serde and the specification have it.
    #[test]
    fn each_format_is_as_long_as_its_head_says() {
        let formats: [(&[u8], usize); 37] = [
            (&[0x00], 0),
            (&[0x7f], 0),
            (&[0xe0], 0),
            (&[0xff], 0),
            (&[0x80], 0),
            (&[0x82], 4),
            (&[0x90], 0),
            (&[0x93], 3),
            (&[0xa0], 0),
            (&[0xbf], 31),
            (&[0xc0], 0),
            (&[0xc2], 0),
            (&[0xc3], 0),
            (&[0xc4, 7], 7),
            (&[0xc5, 1, 7], 263),
            (&[0xc6, 0, 1, 0, 7], 65543),
            (&[0xc7, 7, 1], 7),
            (&[0xc8, 1, 7, 1], 263),
            (&[0xc9, 0, 1, 0, 7, 1], 65543),
            (&[0xca], 4),
            (&[0xcb], 8),
            (&[0xcc], 1),
            (&[0xcd], 2),
            (&[0xce], 4),
            (&[0xcf], 8),
            (&[0xd0], 1),
            (&[0xd1], 2),
            (&[0xd2], 4),
            (&[0xd3], 8),
            (&[0xd4, 1], 1),
            (&[0xd8, 1], 16),
            (&[0xd9, 7], 7),
            (&[0xda, 1, 7], 263),
            (&[0xdb, 0, 1, 0, 7], 65543),
            (&[0xdc, 1, 7], 263),
            (&[0xdd, 0, 1, 0, 7], 65543),
            (&[0xde, 1, 7], 526),
        ];
        for (head, length) in formats {
            let mut value = head.to_vec();
            value.resize(head.len() + length, 0);
            assert_eq!(check(&value), Ok(()), "{head:x?}");
            value.push(0);
            assert_eq!(check(&value), Err(Flaw::Left(1)), "{head:x?}");
            for end in 1..value.len() - 1 {
                assert_eq!(check(&value[..end]), Err(Flaw::Cut), "{head:x?}");
                if end > 100 {
                    break;
                }
            }
        }
        assert_eq!(check(&[]), Err(Flaw::Missing));
        assert_eq!(check(&[0xc1]), Err(Flaw::Reserved));
    }

    #[test]
    fn g11_a_length_that_is_not_there_costs_nothing() {
        for head in [0xc6, 0xc9, 0xdb, 0xdd, 0xdf] {
            assert_eq!(check(&[head, 0xff, 0xff, 0xff, 0xff]), Err(Flaw::Cut));
        }
    }
}
