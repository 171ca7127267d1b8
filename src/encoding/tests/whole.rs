//! What is refused since it is not one whole value, or nested too deep.

use serde::{Deserialize, Serializer};

use super::*;

/// A list that says that it is longer or shorter than it is.
#[derive(Debug)]
struct Liar {
    says: usize,
    is: usize,
}

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut seq = serializer.serialize_seq(Some(self.says))?;
        for n in 0..self.is {
            seq.serialize_element(&n)?;
        }
        seq.end()
    }
}

#[test]
fn a_count_of_elements_that_is_not_true_is_refused() {
    for (says, is) in [(0, 1), (1, 0), (3, 2), (2, 3), (100, 1)] {
        for words in [
            refused(Liar { says, is }),
            refused(Field {
                field: Liar { says, is },
            }),
            refused(Some((1, Liar { says, is }, 2))),
        ] {
            assert!(words.contains("number of elements"), "{words}");
        }
    }
    survives((1, 2));
    assert!(decode::<(u8, u8)>(&encode(&(1, 2, 3)).unwrap()).is_err());
    assert!(decode::<(u8, u8)>(&encode(&(1,)).unwrap()).is_err());
    assert!(decode::<Field<u8>>(&encode(&[1, 2]).unwrap()).is_err());
}

#[test]
fn bytes_that_are_not_one_whole_value_are_refused() {
    let all = [
        (decode::<u64>(&b"21".into()), "1 byte is left"),
        (decode::<u64>(&b"2100".into()), "3 bytes are left"),
        (decode::<u64>(&b"[21]".into()), "3 bytes are left"),
        (decode::<u64>(&Payload::new()), "there are no bytes"),
        (decode::<u64>(&(&[0xcd, 1]).into()), "end before"),
    ];
    for (decoded, expected) in all {
        let words = decoded.unwrap_err();
        assert!(words.contains(expected), "{words}");
    }
    for words in [
        decode::<()>(&Payload::new()).unwrap_err(),
        decode::<Option<u8>>(&Payload::new()).unwrap_err(),
        decode::<Vec<u8>>(&Payload::new()).unwrap_err(),
        decode::<Unit>(&Payload::new()).unwrap_err(),
        decode::<serde::de::IgnoredAny>(&Payload::new()).unwrap_err(),
    ] {
        assert!(words.contains("there are no bytes"), "{words}");
    }
    assert!(decode::<serde::de::IgnoredAny>(&b"21".into()).is_err());
    assert_eq!(decode::<Bytes>(&Payload::new()), Ok(Bytes::new()));
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Nest(Vec<Nest>);

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum Pipeline {
    Link(Box<Pipeline>),
    Named { next: Box<Pipeline> },
    End,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Loose {
    Link { next: Box<Loose> },
    End(u8),
}

fn nest(depth: usize) -> Nest {
    (1..depth).fold(Nest(Vec::new()), |inner, _| Nest(vec![inner]))
}

fn chain(depth: usize) -> Pipeline {
    (0..depth).fold(Pipeline::End, |inner, _| Pipeline::Link(Box::new(inner)))
}

#[test]
fn g11_a_value_that_is_nested_too_deep_is_refused_before_the_stack_ends() {
    survives(nest(100));
    survives(chain(100));
    survives((0..50).fold(Pipeline::End, |inner, _| Pipeline::Named {
        next: Box::new(inner),
    }));
    survives((0..100).fold(Loose::End(1), |inner, _| Loose::Link {
        next: Box::new(inner),
    }));
    assert!(refused(nest(200)).contains("depth"));
    assert!(refused(chain(200)).contains("depth"));
    for depth in [200, 1000, 1_000_000] {
        let lists = [vec![0x91; depth], vec![0x90]].concat();
        let links = [[0x81, 0xa4].as_slice(), b"Link"].concat().repeat(depth);
        let links = [links, vec![0xa3], b"End".to_vec()].concat();
        let errors = [
            decode::<Nest>(&lists.clone().into()).unwrap_err(),
            decode::<serde::de::IgnoredAny>(&lists.into()).unwrap_err(),
            decode::<Pipeline>(&links.into()).unwrap_err(),
        ];
        for error in errors {
            assert!(error.contains("depth"), "{error}");
        }
    }
}

/// What grows keeps its reader: unknown fields are skipped, missing ones take their default.
#[test]
fn a_type_may_grow() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Old {
        a: u8,
    }
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct New {
        a: u8,
        #[serde(default)]
        b: Vec<Option<IpAddr>>,
    }
    let new = New {
        a: 1,
        b: vec![None, Some([127, 0, 0, 1].into())],
    };
    assert_eq!(decode(&encode(&new).unwrap()), Ok(Old { a: 1 }));
    assert_eq!(
        decode(&encode(&Old { a: 1 }).unwrap()),
        Ok(New { a: 1, b: vec![] })
    );
}
