//! What comes out as it went in, and what is refused with a reason.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::*;

mod whole;

/// Encodes and decodes.
fn back<T: Serialize + DeserializeOwned + 'static>(value: &T) -> Result<T, String> {
    decode(&encode(value)?)
}

fn survives<T: Serialize + DeserializeOwned + Debug + PartialEq + 'static>(value: T) {
    let decoded = back(&value).unwrap_or_else(|words| panic!("{value:?}: {words}"));
    assert_eq!(decoded, value);
}

/// Returns the message with which a value is refused when it is encoded.
fn refused<T: Serialize + Debug + 'static>(value: T) -> String {
    encode(&value).expect_err(&format!("{value:?} would change"))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Empty();

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Braces {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New<T>(T);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Field<T> {
    field: T,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat<T> {
    n: u8,
    #[serde(flatten)]
    rest: Field<T>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum External<T> {
    Nothing,
    New(T),
    Two(T, T),
    Named { field: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Internal<T> {
    Nothing,
    New(Field<T>),
    Named { field: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
enum Adjacent<T> {
    Nothing,
    New(T),
    Two(T, T),
    Named { field: T },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<T> {
    Named { field: T },
    Two(T, T),
    New(T),
}

/// All places that a type can have in another. One type, since each instance of it takes a while to
/// compile.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everywhere<T> {
    new: New<T>,
    some: Option<T>,
    twice: Option<Option<T>>,
    result: Result<T, ()>,
    pair: (T, T),
    list: Vec<T>,
    map: BTreeMap<u8, T>,
    external: [External<T>; 4],
    adjacent: [Adjacent<T>; 4],
    buffered: Buffered<T>,
}

/// The places where serde reads it from a copy.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Buffered<T> {
    flat: Flat<T>,
    internal: [Internal<T>; 3],
    untagged: [Untagged<T>; 3],
    nested: Flat<Untagged<T>>,
}

fn survives_everywhere<T>(value: T)
where
    T: Serialize + DeserializeOwned + Clone + Debug + PartialEq + 'static,
{
    let v = || value.clone();
    survives(v());
    survives(Everywhere {
        new: New(v()),
        some: Some(v()),
        twice: Some(Some(v())),
        result: Ok(v()),
        pair: (v(), v()),
        list: vec![v(), v()],
        map: BTreeMap::from([(1, v()), (2, v())]),
        external: [
            External::Nothing,
            External::New(v()),
            External::Two(v(), v()),
            External::Named { field: v() },
        ],
        adjacent: [
            Adjacent::Nothing,
            Adjacent::New(v()),
            Adjacent::Two(v(), v()),
            Adjacent::Named { field: v() },
        ],
        buffered: buffered(&value),
    });
}

fn buffered<T: Clone>(value: &T) -> Buffered<T> {
    let v = || value.clone();
    Buffered {
        flat: Flat {
            n: 1,
            rest: Field { field: v() },
        },
        internal: [
            Internal::Nothing,
            Internal::New(Field { field: v() }),
            Internal::Named { field: v() },
        ],
        untagged: [
            Untagged::Named { field: v() },
            Untagged::Two(v(), v()),
            Untagged::New(v()),
        ],
        nested: Flat {
            n: 1,
            rest: Field {
                field: Untagged::New(v()),
            },
        },
    }
}

/// One field of each type, so that the many places are compiled once for all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    unsigned: Vec<u64>,
    signed: Vec<i64>,
    single: Vec<f32>,
    double: Vec<f64>,
    truth: bool,
    letters: Vec<char>,
    texts: Vec<String>,
    unit: (),
    named_unit: Unit,
    empty: Empty,
    braces: Braces,
    none: Option<u8>,
    some: Option<u8>,
    ips: Vec<IpAddr>,
    sockets: Vec<SocketAddr>,
    uuid: Uuid,
    at: DateTime<Utc>,
    decimals: Vec<Decimal>,
    took: Duration,
    since: SystemTime,
    path: PathBuf,
    bytes: Vec<ByteBuf>,
    shared: Bytes,
    octets: Vec<u8>,
    array: [u8; 16],
    numbered: HashMap<u64, String>,
    lettered: BTreeMap<char, u8>,
    answers: BTreeMap<bool, i8>,
    by_pair: BTreeMap<(u8, String), u8>,
    by_choice: BTreeMap<Option<u8>, u8>,
    by_ip: HashMap<IpAddr, u8>,
    by_uuid: HashMap<Uuid, u8>,
    json: serde_json::Value,
}

fn all() -> All {
    All {
        unsigned: vec![0, 1, 127, 128, 255, 256, 65535, 65536, u64::MAX],
        signed: vec![-1, -32, -33, -128, -129, i64::MIN, i64::MAX],
        single: vec![0.0, -0.0, 1.5, 0.1, f32::MIN_POSITIVE, f32::INFINITY],
        double: vec![0.0, -0.0, 1.5, 0.1, f64::MIN_POSITIVE, f64::NEG_INFINITY],
        truth: true,
        letters: vec!['7', '\u{1f3ad}', '\0'],
        texts: [0, 1, 31, 32, 255, 256, 65536]
            .map(|n| "x".repeat(n))
            .into(),
        unit: (),
        named_unit: Unit,
        empty: Empty(),
        braces: Braces {},
        none: None,
        some: Some(7),
        ips: ["127.0.0.1", "2001:db8::7"]
            .map(|ip| ip.parse().unwrap())
            .into(),
        sockets: ["10.0.0.1:65535", "[::1]:80"]
            .map(|at| at.parse().unwrap())
            .into(),
        uuid: Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0),
        at: "2026-11-28T13:00:00.123456789Z".parse().unwrap(),
        decimals: ["0.10", "-79228162514264337593543950335"]
            .map(|n| n.parse().unwrap())
            .into(),
        took: Duration::new(7, 999_999_999),
        since: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        path: "/tmp/x".into(),
        bytes: [&b""[..], b"21", b"\xff\xfe", &[7; 300]]
            .map(ByteBuf::from)
            .into(),
        shared: Bytes::from_static(b"\xff21"),
        octets: vec![0, 127, 128, 255],
        array: [200; 16],
        numbered: HashMap::from([(1, "a".into()), (u64::MAX, "b".into())]),
        lettered: BTreeMap::from([('a', 1), ('b', 2)]),
        answers: BTreeMap::from([(true, 1), (false, -2)]),
        by_pair: BTreeMap::from([((1, "a".into()), 1)]),
        by_choice: BTreeMap::from([(None, 1), (Some(1), 2)]),
        by_ip: HashMap::from([(IpAddr::from([127, 0, 0, 1]), 1)]),
        by_uuid: HashMap::from([(Uuid::from_u128(7), 1)]),
        json: serde_json::json!({"a": [1, -1, 1.5, null, "x", {}], "b": true}),
    }
}

#[test]
fn types_of_every_kind_survive_everywhere() {
    survives_everywhere(all());
    // Bare too: what stands in a tagged type itself takes other ways than a field of it.
    survives_everywhere(IpAddr::from([127, 0, 0, 1]));
}

#[test]
fn types_of_every_kind_survive_alone() {
    let all = all();
    all.unsigned.into_iter().for_each(survives);
    all.signed.into_iter().for_each(survives);
    all.single.into_iter().for_each(survives);
    all.double.into_iter().for_each(survives);
    all.letters.into_iter().for_each(survives);
    all.texts.into_iter().for_each(survives);
    all.ips.into_iter().for_each(survives);
    all.bytes.into_iter().for_each(survives);
    survives(all.numbered);
    survives(all.by_choice);
    survives(BTreeMap::from([(vec![1u8], 1)]));
    survives(all.json);
    assert!(back(&f32::NAN).is_ok_and(f32::is_nan));
    let nan = Flat {
        n: 1,
        rest: Field { field: f64::NAN },
    };
    assert!(back(&nan).is_ok_and(|flat| flat.rest.field.is_nan()));
    // The type itself passes as it is.
    let raw = Bytes::from_static(b"21");
    assert_eq!(encode(&raw).unwrap()[..], *b"21");
    assert_eq!(encode(&Payload::from(raw.clone())).unwrap()[..], *b"21");
    assert_eq!(decode::<Payload>(&raw.clone().into()), Ok(raw.into()));
}

#[test]
fn what_is_empty_survives() {
    survives(());
    survives(New(()));
    survives(vec![(), ()]);
    survives(((), 1, ()));
    survives(Ok::<(), ()>(()));
    survives(External::New(()));
    survives(External::New(None::<u8>));
    survives([Some(External::New(())), Some(External::Nothing), None]);
    survives(Some(vec![()]));
    survives(Some(Field { field: () }));
    survives(Some(BTreeMap::from([((), ())])));
    survives(Some(((), ())));
    survives(Unit);
    survives(Braces {});
    survives(Some(Vec::<u8>::new()));
    survives(None::<Option<u8>>);
    survives(Some(Some(7u8)));
    for field in [None, Some(1u8)] {
        survives(Field { field });
        survives(Flat {
            n: 1,
            rest: Field { field },
        });
        survives(Internal::Named { field });
        survives(Adjacent::New(field));
        survives(Untagged::Named { field });
    }
}

#[test]
fn a_some_that_would_become_none_is_refused() {
    let all = [
        refused(Some(())),
        refused(Some(None::<u8>)),
        refused(Some(Some(None::<u8>))),
        refused(Some(New(()))),
        refused(Some(New(New(None::<u8>)))),
        refused(Some(Box::new(()))),
        refused(Some(Unit)),
        refused(Some(serde_json::Value::Null)),
        refused(vec![None, Some(())]),
        refused(Ok::<_, ()>(Some(()))),
        refused(BTreeMap::from([(1, Some(()))])),
        refused(BTreeMap::from([(Some(()), 1)])),
        refused((1, Some(()))),
        refused(New(Some(()))),
        refused(Field { field: Some(()) }),
        refused(External::New(Some(()))),
        refused(External::Two(None, Some(()))),
        refused(External::Named { field: Some(()) }),
        refused(Flat {
            n: 1,
            rest: Field { field: Some(()) },
        }),
        refused(Internal::Named {
            field: Some(None::<u8>),
        }),
        refused(Adjacent::New(Some(()))),
        refused(Untagged::Two(None, Some(()))),
    ];
    for words in all {
        assert!(words.contains("Some(None)"), "{words}");
    }
}

#[test]
fn numbers_of_128_bits_survive_but_where_serde_cannot_read_them() {
    for n in [0, 1, u128::from(u64::MAX) + 1, u128::MAX] {
        survives(n);
        survives(Field { field: Some(n) });
        survives(External::Two(n, n));
        survives(Adjacent::Named { field: n });
        survives(BTreeMap::from([(n, n)]));
    }
    for n in [-1, i128::MIN, i128::MAX] {
        survives(vec![n]);
    }
    let words = [
        back(&Flat {
            n: 1,
            rest: Field { field: 1u128 },
        })
        .unwrap_err(),
        back(&Internal::Named { field: 1i128 }).unwrap_err(),
        back(&Internal::New(Field { field: 1u128 })).unwrap_err(),
        back(&Untagged::New(1u128)).unwrap_err(),
    ];
    for words in words {
        assert!(words.contains("no number of 128 bits"), "{words}");
    }
}

#[test]
fn what_only_json_can_read_is_refused() {
    let raw = serde_json::value::RawValue::from_string("1".into()).unwrap();
    assert!(refused(Field { field: raw }).contains("RawValue"));
}
