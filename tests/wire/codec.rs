//! Messages to bytes and back, without a link.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use callboard::__internals::engine::message::*;
use callboard::__internals::engine::{Incarnation, Memory};
use callboard::__internals::net::Wire;
use callboard::__internals::net::codec::framing::{Burst, Frames, MAX_CHUNK, MAX_WIRE_FRAME};
use callboard::__internals::net::codec::message::{Arrived, MessageReader};
use callboard::error::{LinkError, LinkRefusal};
use callboard::task::{Dispatch, TaskId};
use proptest::prelude::*;

use crate::messages::{assign, completed, join_to_node, join_to_scheduler, to_node, to_scheduler};

const MAX_BODY: usize = 1 << 20;

fn encode(message: &impl Wire) -> BytesMut {
    let mut frames = Frames::new(MAX_CHUNK, MAX_BODY);
    message.encode(&mut frames).unwrap();
    let mut bytes = BytesMut::new();
    let mut burst = Burst::default();
    while !frames.is_empty() {
        frames.take_burst(&mut burst);
        bytes.put(&mut burst);
    }
    bytes
}

fn decode<In: Wire>(bytes: &mut BytesMut) -> Result<Vec<In>, LinkError> {
    let mut reader = MessageReader::new(MAX_BODY);
    let mut messages = Vec::new();
    while let Some(arrived) = reader.next(bytes)? {
        if let Arrived::Message(message) = arrived {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn decode_whole<In: Wire>(mut bytes: BytesMut) -> Vec<In> {
    assert!(frame_lengths(&bytes).all(|length| length <= MAX_WIRE_FRAME));
    let messages = decode(&mut bytes).unwrap();
    assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
    messages
}

fn frame_lengths(mut bytes: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let length = bytes.try_get_u32().ok()? as usize;
        bytes.advance(length);
        Some(length)
    })
}

/// Makes a frame of this content.
fn frame(kind: u8, content: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u32(content.len() as u32 + 1);
    bytes.put_u8(kind);
    bytes.put(content);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_to_a_node_comes_back(message in to_node()) {
        prop_assert_eq!(join_to_node(decode_whole(encode(&message))), message);
    }

    #[test]
    fn every_message_to_a_scheduler_comes_back(message in to_scheduler()) {
        prop_assert_eq!(join_to_scheduler(decode_whole(encode(&message))), message);
    }

    #[test]
    fn g11_random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in 0..24u8,
        bare in any::<bool>(),
    ) {
        let bytes = if bare { BytesMut::from(&bytes[..]) } else { frame(kind, &bytes) };
        let _ = decode::<ToNode>(&mut bytes.clone());
        let _ = decode::<ToScheduler>(&mut bytes.clone());
    }

    #[test]
    fn g11_changed_frames_never_panic(
        node in to_node(),
        scheduler in to_scheduler(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for mut bytes in [encode(&node), encode(&scheduler)] {
            // The heads are at the beginning, so that is where changes tell most.
            let reach = bytes.len().min(400);
            for (at, byte) in &changes {
                bytes[at.index(reach)] = *byte;
            }
            let _ = decode::<ToNode>(&mut bytes.clone());
            let _ = decode::<ToScheduler>(&mut bytes.clone());
        }
    }

    #[test]
    fn a_truncated_message_is_waited_for(message in to_scheduler(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&message);
        let mut begun = BytesMut::from(&bytes[..cut.index(bytes.len())]);
        let mut reader = MessageReader::new(MAX_BODY);
        let mut count = 0;
        while let Some(arrived) = reader.next::<ToScheduler>(&mut begun).unwrap() {
            count += usize::from(matches!(arrived, Arrived::Message(_)));
        }
        prop_assert!(count < decode_whole::<ToScheduler>(bytes).len());
    }
}

#[test]
fn long_batches_are_split_and_only_the_last_holding_says_last() {
    let runs = (0..10_000).map(|n| HeldRun {
        task: TaskId::new(n),
        dispatch: Dispatch::new(u64::MAX - n),
        state: HeldState::Running,
    });
    let reports = (0..10_000).map(|n| completed(n, Bytes::from(vec![7; (n % 50) as usize])));
    let holding = Holding {
        runs: runs.collect(),
        reports: reports.collect(),
        last: true,
    };
    let message = ToScheduler::Holding(holding);
    let parts = decode_whole(encode(&message));
    assert!(parts.len() > 5);
    assert_eq!(join_to_scheduler(parts), message);

    let cancel = ToNode::Cancel((0..10_000).map(Dispatch::new).collect());
    assert_eq!(join_to_node(decode_whole(encode(&cancel))), cancel);
}

#[test]
fn the_largest_hello_and_a_long_welcome_pass() {
    let hello = ToScheduler::Hello(Box::new(NodeHello {
        version_min: 1,
        version_max: 1,
        node: "n".repeat(MAX_NAME_BYTES),
        incarnation: Incarnation(1),
        memory: Memory(u64::MAX),
        number: 1,
        seen: Dispatch::new(u64::MAX),
        kinds: (0..MAX_KINDS)
            .map(|n| KindOffer {
                kind: format!("{n:0>256}"),
                blocking: true,
            })
            .collect(),
        labels: (0..MAX_LABELS).map(|n| format!("{n:0>256}")).collect(),
        workers: 1,
        out_of_reach: 1,
        probe: None,
        address: String::new(),
        refusal_means_dead: false,
        draining: false,
        max_frame: None,
    }));
    assert_eq!(decode_whole::<ToScheduler>(encode(&hello)), [hello]);
}

#[test]
fn a_large_body_is_sent_and_received_by_reference_or_once_copied() {
    let args = Bytes::from(vec![1; 30_000]);
    let message = ToNode::Assign(vec![assign(1, args.clone())]);
    let mut frames = Frames::new(MAX_CHUNK, MAX_BODY);
    message.encode(&mut frames).unwrap();
    let mut burst = Burst::default();
    frames.take_burst(&mut burst);
    let head = burst.chunk().len();
    burst.advance(head);
    assert_eq!(burst.chunk().as_ptr(), args.as_ptr());
}

#[test]
fn a_body_is_the_same_however_its_bytes_are_read() {
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let messages = [
        ToNode::Assign(vec![assign(1, Bytes::from(body.clone()))]),
        ToNode::Drain,
        ToNode::Assign(vec![assign(2, Bytes::from(body))]),
    ];
    let mut bytes = BytesMut::new();
    for message in &messages {
        bytes.extend_from_slice(&encode(message));
    }
    for step in [1, 4, 5, 6, 1000, MAX_CHUNK, MAX_CHUNK + 6, 200_000] {
        let mut left = &bytes[..];
        let mut buffer = BytesMut::new();
        let mut reader = MessageReader::new(MAX_BODY);
        let mut arrived = Vec::new();
        while !left.is_empty() {
            let (some, rest) = left.split_at(step.min(left.len()));
            left = rest;
            let mut some = some;
            if reader.is_within_chunk() {
                let count = reader.room().remaining_mut().min(some.len());
                reader.room().put_slice(&some[..count]);
                reader.filled(count);
                some = &some[count..];
            }
            buffer.extend_from_slice(some);
            while let Some(next) = reader.next::<ToNode>(&mut buffer).unwrap() {
                if let Arrived::Message(message) = next {
                    arrived.push(message);
                }
            }
        }
        assert_eq!(arrived, messages, "by {step}");
        assert!(buffer.is_empty() && !reader.is_within_chunk());
    }
}

#[test]
fn bodies_beyond_the_limit_are_refused_by_both_sides() {
    let message = ToNode::Assign(vec![assign(1, Bytes::from(vec![0; MAX_BODY + 1]))]);
    let mut frames = Frames::new(MAX_CHUNK, MAX_BODY);
    assert!(matches!(
        message.encode(&mut frames),
        Err(LinkError::FrameTooLarge { .. })
    ));
    let mut frames = Frames::new(MAX_CHUNK, MAX_BODY * 4);
    message.encode(&mut frames).unwrap();
    let mut bytes = BytesMut::new();
    let mut burst = Burst::default();
    while !frames.is_empty() {
        frames.take_burst(&mut burst);
        bytes.put(&mut burst);
    }
    assert!(matches!(
        decode::<ToNode>(&mut bytes),
        Err(LinkError::FrameTooLarge { .. })
    ));
}

fn refused<In: Wire + std::fmt::Debug>(mut bytes: BytesMut) -> String {
    decode::<In>(&mut bytes).unwrap_err().to_string()
}

#[test]
fn g11_what_is_not_ours_is_refused_in_words() {
    let mut claim = BytesMut::new();
    claim.put_u32(u32::MAX);
    assert!(refused::<ToNode>(claim).contains("4294967295"));
    assert!(refused::<ToNode>(frame(99, b"")).contains("99 is no kind of frame"));
    // A nil for every element of an assignment, and for every one of a map.
    let mut nils = BytesMut::new();
    nils.put_u32(60_000);
    nils.put_u8(0xdd);
    nils.put_u32(59_995);
    nils.put_bytes(0xc0, 59_995);
    assert!(refused::<ToNode>(frame(4, &nils)).contains("invalid length 59995"));
    // An array that claims more than has come.
    let claim = [0, 0, 0, 5, 0xdd, 0xff, 0xff, 0xff, 0xff];
    assert!(refused::<ToNode>(frame(4, &claim)).contains("invalid length"));
    // A body longer than the frame, one that belongs to nothing, and heads longer than the frame.
    let head = [0x96, 1, 1, 0, 1, 0xc2, 9];
    let mut heads = vec![0, 0, 0, 12, 0xdd, 0, 0, 0, 1];
    heads.extend(head);
    heads.extend(b"12345678");
    assert!(refused::<ToNode>(frame(4, &heads)).contains("a body of 9 bytes where 8 are left"));
    heads.extend(b"90");
    assert!(refused::<ToNode>(frame(4, &heads)).contains("belong to nothing"));
    heads[3] = 200;
    assert!(refused::<ToNode>(frame(4, &heads)).contains("longer than their frame"));
    // Something after a message; nesting to exhaust the stack; a field too many in an array.
    assert!(refused::<ToNode>(frame(11, &[0x80, 0x80])).contains("bytes after a message"));
    let deep = [[0x81, 0xa1, b'x'].as_slice(), &[0x91; 10_000]].concat();
    assert!(refused::<ToNode>(frame(11, &deep)).contains("depth"));
    let excess = [0, 0, 0, 11, 0xdd, 0, 0, 0, 1, 0x95, 8, 1, 1, 1, 1];
    assert!(!refused::<ToScheduler>(frame(22, &excess)).is_empty());
    // Chunks: empty, for a message that has none, never come, and interrupted.
    assert!(refused::<ToNode>(frame(0, b"")).contains("empty chunk"));
    let mut bytes = frame(0, b"x");
    bytes.unsplit(frame(11 | 0x80, &[0x80]));
    assert!(refused::<ToNode>(bytes).contains("chunks for a message that has none"));
    assert!(refused::<ToNode>(frame(4 | 0x80, &[0x80])).contains("have not come"));
    let mut bytes = frame(0, b"x");
    bytes.unsplit(frame(11, &[0x80]));
    assert!(refused::<ToNode>(bytes).contains("between the chunks"));
}

#[test]
fn g11_too_many_or_too_long_names_are_refused() {
    let hello = |name: usize, kinds: usize, kind: usize, labels: usize| {
        refused::<ToScheduler>(encode(&ToScheduler::Hello(Box::new(NodeHello {
            version_min: 1,
            version_max: 1,
            node: "n".repeat(name),
            incarnation: Incarnation(1),
            memory: Memory(u64::MAX),
            number: 1,
            seen: Dispatch::new(1),
            kinds: (0..kinds)
                .map(|_| KindOffer {
                    kind: "k".repeat(kind),
                    blocking: false,
                })
                .collect(),
            labels: (0..labels).map(|n| n.to_string()).collect(),
            workers: 1,
            out_of_reach: 1,
            probe: None,
            address: String::new(),
            refusal_means_dead: false,
            draining: false,
            max_frame: None,
        }))))
    };
    assert!(hello(MAX_NAME_BYTES + 1, 1, 1, 1).contains("a name of 257 bytes"));
    assert!(hello(1, MAX_KINDS + 1, 1, 1).contains("at most 4096 elements"));
    assert!(hello(1, 1, 257, 1).contains("too long"));
    assert!(hello(1, 1, 1, MAX_LABELS + 1).contains("at most 256 elements"));
}

#[test]
fn unknown_fields_of_control_messages_are_skipped() {
    // {"later": [1, {"x": nil}], "number": 7}
    let content = [
        &[0x82, 0xa5][..],
        b"later",
        &[0x92, 1, 0x81, 0xa1, b'x', 0xc0, 0xa6],
        b"number",
        &[7],
    ]
    .concat();
    let messages = decode::<ToNode>(&mut frame(7, &content)).unwrap();
    assert_eq!(messages, [ToNode::Acknowledge(7)]);
}

#[test]
fn g11_a_refusal_is_fit_for_a_log() {
    let refuse = |refusal| ToNode::Refuse(refusal);
    let violation = |words: String| refuse(LinkRefusal::Violation(words));
    let words = "\u{1b}[31mred\r\n".repeat(500);
    let [ToNode::Refuse(LinkRefusal::Violation(shown))] =
        &decode_whole::<ToNode>(encode(&violation(words)))[..]
    else {
        panic!("another message");
    };
    assert!(shown.starts_with(".[31mred.."), "{shown}");
    assert_eq!(shown.len(), 1024);
    let name = "n".repeat(MAX_NAME_BYTES + 1);
    let refused = refused::<ToNode>(encode(&refuse(LinkRefusal::Replaced { name })));
    assert!(refused.contains("a name of 257 bytes"), "{refused}");
}

#[test]
fn g11_what_only_the_other_side_may_send_is_no_frame() {
    for kind in 20..24 {
        assert!(refused::<ToNode>(frame(kind, &[0x80])).contains("no kind of frame here"));
    }
    for kind in 3..13 {
        assert!(refused::<ToScheduler>(frame(kind, &[0x80])).contains("no kind of frame here"));
    }
}
