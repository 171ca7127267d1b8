//! What is written at once, and what is left to the task of the link.
//!
//! Owns: a transport that takes what it is given room for. Does not know: sockets.

use bytes::BytesMut;
use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::engine::message::{ToNode, ToScheduler};
use crate::net::codec::message::{Arrived, MessageReader};
use crate::net::handshake::Authenticated;
use crate::net::link::{LinkEvent, run_link};
use crate::net::names::Names;
use crate::task::Dispatch;

/// A transport that takes what it is given room for.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<PipeState>>);

#[derive(Default)]
struct PipeState {
    room: usize,
    taken: Vec<u8>,
    waiting: Option<Waker>,
    broken: bool,
    shut: bool,
}

impl Pipe {
    fn with_room(room: usize) -> Self {
        let pipe = Self::default();
        pipe.make_room(room);
        pipe
    }

    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.0.lock().unwrap()
    }

    fn make_room(&self, room: usize) {
        let mut state = self.state();
        state.room += room;
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }

    fn taken(&self) -> usize {
        self.state().taken.len()
    }

    fn messages(&self) -> Vec<ToNode> {
        let mut buffer = BytesMut::from(&self.state().taken[..]);
        let mut reader = MessageReader::new(1 << 20);
        let mut messages = Vec::new();
        while let Some(arrived) = reader.next(&mut buffer).unwrap() {
            if let Arrived::Message(message) = arrived {
                messages.push(message);
            }
        }
        messages
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        // The system tells an error once.
        if mem::take(&mut state.broken) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(state.room);
        if count == 0 {
            state.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.room -= count;
        state.taken.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// A running link that writes to a pipe and reads nothing, and the task that carries it.
struct Running {
    way: LinkWriter<ToNode>,
    task: JoinHandle<Vec<LinkEvent<ToScheduler>>>,
}

impl Running {
    async fn start(pipe: &Pipe, direct: bool) -> Self {
        let (read, peer) = tokio::io::duplex(1);
        let proved = Authenticated {
            read: Box::new(read),
            write: Box::new(pipe.clone()),
            direct,
            names: Names::Any,
            ends: Default::default(),
        };
        let way = LinkWriter::new();
        let given = way.clone();
        let config = LinkConfig {
            max_frame: 128 << 10,
            ..LinkConfig::default()
        };
        let task = tokio::spawn(async move {
            let mut events = Vec::new();
            run_link(proved, config, given, |batch| events.extend(batch)).await;
            drop(peer);
            events
        });
        // It begins, and waits.
        yield_now().await;
        Self { way, task }
    }

    fn close(&self) {
        self.way
            .give(LinkCommand::Close("the end of the test".to_owned()));
    }
}

/// Makes a message that keeps its order, with so many entries.
fn retract(number: u64, entries: usize) -> ToNode {
    ToNode::Retract(vec![Dispatch::new(number); entries])
}

fn small(number: u64) -> ToNode {
    retract(number, 1)
}

/// Returns the numbers of those that keep their order, and of those that may overtake.
fn numbers(messages: Vec<ToNode>) -> (Vec<u64>, Vec<u64>) {
    let (mut ordered, mut first) = (Vec::new(), Vec::new());
    for message in messages {
        match message {
            ToNode::Retract(runs) => ordered.push(runs[0].get()),
            ToNode::Answer(number) => first.push(number),
            other => panic!("{other:?} was not sent"),
        }
    }
    (ordered, first)
}

#[tokio::test(start_paused = true)]
async fn a_small_message_on_an_idle_link_is_written_before_the_call_returns() {
    let pipe = Pipe::with_room(1 << 20);
    let link = Running::start(&pipe, true).await;
    for number in 0..3 {
        link.way
            .send(vec![ToNode::Answer(number), small(number)], true);
        assert_eq!(pipe.messages().len(), 2 * number as usize + 2);
    }
    // Neither many nor large ones, nor any behind one that waits.
    let before = pipe.taken();
    link.way
        .send((3..4 + MAX_AT_ONCE as u64).map(small).collect(), true);
    link.way.send(vec![small(100)], true);
    assert_eq!(pipe.taken(), before);
    yield_now().await;
    let before = pipe.taken();
    link.way
        .send(vec![retract(101, MAX_BYTES_AT_ONCE / 96)], true);
    assert_eq!(pipe.taken(), before);
    yield_now().await;
    let (ordered, _) = numbers(pipe.messages());
    assert!(ordered.is_sorted());
    assert_eq!(ordered.last(), Some(&101));
    link.close();
    link.task.await.unwrap();

    // And nothing on a transport that other threads must not touch.
    let pipe = Pipe::with_room(1 << 20);
    let link = Running::start(&pipe, false).await;
    link.way.send(vec![small(1)], true);
    assert_eq!(pipe.taken(), 0);
    link.close();
    link.task.await.unwrap();
    assert_eq!(pipe.messages(), [small(1)]);
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::await_holding_lock,
    reason = "the task that goes on meanwhile must not wait for it"
)]
async fn a_task_that_finds_another_writing_does_not_wait_and_goes_on_when_that_is_done() {
    let pipe = Pipe::with_room(1 << 20);
    let link = Running::start(&pipe, true).await;
    let writes = link.way.sending();
    link.way.give(LinkCommand::Send(small(1)));
    yield_now().await;
    assert_eq!(pipe.taken(), 0);
    drop(writes);
    // As whoever writes does.
    link.way.send(vec![small(2)], true);
    yield_now().await;
    assert_eq!(numbers(pipe.messages()).0, [1, 2]);
    link.close();
    link.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn order_holds_whoever_writes_and_however_little_is_taken() {
    let mut at_once = 0;
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let pipe = Pipe::default();
        let link = Running::start(&pipe, true).await;
        let (mut next, mut answer) = (0, 0);
        let mut fresh = |random: &mut fastrand::Rng| {
            if random.u8(..4) == 0 {
                answer += 1;
                return ToNode::Answer(answer);
            }
            next += 1;
            retract(next, random.usize(1..20))
        };
        for _ in 0..200 {
            match random.u8(..6) {
                0 | 1 => {
                    let before = pipe.taken();
                    let count = random.usize(1..=MAX_AT_ONCE);
                    let few = (0..count).map(|_| fresh(&mut random)).collect();
                    link.way.send(few, true);
                    at_once += usize::from(pipe.taken() > before);
                }
                2 => link.way.give(LinkCommand::Send(fresh(&mut random))),
                3 => pipe.make_room(random.usize(..100)),
                4 => pipe.make_room(random.usize(..2000)),
                _ => yield_now().await,
            }
        }
        link.close();
        pipe.make_room(1 << 20);
        let events = link.task.await.unwrap();
        assert_eq!(
            events,
            [LinkEvent::Closed("the end of the test".to_owned())]
        );
        let (ordered, first) = numbers(pipe.messages());
        assert_eq!(ordered, (1..=next).collect::<Vec<_>>());
        assert_eq!(first, (1..=answer).collect::<Vec<_>>());
    }
    assert!(at_once > 500, "only {at_once} were written at once");
}

#[tokio::test(start_paused = true)]
async fn what_the_transport_does_not_take_at_once_is_left_to_the_link() {
    let pipe = Pipe::with_room(5);
    let link = Running::start(&pipe, true).await;
    link.way.send(vec![small(1)], true);
    assert_eq!(pipe.taken(), 5);
    link.way.send(vec![small(2)], true);
    pipe.make_room(1000);
    assert_eq!(pipe.taken(), 5, "the first is not whole yet");
    yield_now().await;
    assert_eq!(pipe.messages(), [small(1), small(2)]);
    let before = pipe.taken();
    link.way.send(vec![small(3)], true);
    assert!(pipe.taken() > before, "it is idle again");
    link.close();
    link.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g11_a_peer_that_reads_nothing_does_not_fill_the_memory_with_what_is_written_at_once() {
    let pipe = Pipe::with_room(100);
    let link = Running::start(&pipe, true).await;
    let mut sent = 0u64;
    while !link.task.is_finished() {
        link.way.send(vec![small(sent)], true);
        sent += 1;
        assert!(sent < 200_000);
        if sent.is_multiple_of(1000) {
            yield_now().await;
        }
    }
    assert!(sent > 50_000, "16 MiB are allowed");
    let events = link.task.await.unwrap();
    let [LinkEvent::Closed(reason)] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(reason.contains("the peer reads too slowly"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_close_sends_what_was_written_at_once_before_and_nothing_after() {
    let pipe = Pipe::with_room(5);
    let link = Running::start(&pipe, true).await;
    link.way.send(vec![small(1)], true);
    link.close();
    link.way.send(vec![small(2)], true);
    yield_now().await;
    link.way.send(vec![small(3)], true);
    assert!(!link.task.is_finished());
    pipe.make_room(1000);
    link.task.await.unwrap();
    assert_eq!(pipe.messages(), [small(1)]);
    assert!(pipe.state().shut);
}

#[tokio::test(start_paused = true)]
async fn g8_a_broken_transport_is_told_once_by_the_link_whoever_finds_it() {
    let pipe = Pipe::with_room(1000);
    let link = Running::start(&pipe, true).await;
    pipe.state().broken = true;
    for number in 0..3 {
        link.way.send(vec![small(number)], true);
    }
    let ended = timeout_at(Instant::now() + Duration::from_secs(1), link.task).await;
    let events = ended.expect("the link ends").unwrap();
    let [LinkEvent::Closed(reason)] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(reason.contains("broken pipe"), "{reason}");
    link.way.send(vec![small(4)], true);
    assert_eq!(pipe.taken(), 0);
}

/// Makes a transport by pipes, of which the peer has reset the connection after its last words.
async fn reset_after(last: ToScheduler) -> Authenticated {
    let (read, peer) = tokio::io::duplex(1000);
    let (unread, _open) = tokio::io::duplex(1000);
    let proved = Authenticated {
        read: Box::new(unread),
        write: Box::new(peer),
        direct: false,
        names: Names::Any,
        ends: Default::default(),
    };
    let way = LinkWriter::new();
    way.give(LinkCommand::Send(last));
    way.give(LinkCommand::Close("the end of the test".to_owned()));
    run_link(
        proved,
        LinkConfig::default(),
        way,
        |_: Vec<LinkEvent<ToNode>>| {},
    )
    .await;
    let write = Pipe::with_room(1000);
    write.state().broken = true;
    Authenticated {
        read: Box::new(read),
        write: Box::new(write),
        direct: false,
        names: Names::Any,
        ends: Default::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn g8_a_goodbye_before_a_reset_is_heard_whoever_finds_the_reset() {
    // Which half of a link has its turn first is chance.
    for _ in 0..64 {
        let proved = reset_after(ToScheduler::Goodbye).await;
        let way = LinkWriter::new();
        way.give(LinkCommand::Send(small(1)));
        let mut events = Vec::new();
        run_link(proved, LinkConfig::default(), way, |batch| {
            events.extend(batch);
        })
        .await;
        let goodbye = LinkEvent::Message(ToScheduler::Goodbye);
        assert!(events.contains(&goodbye), "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_dropped_lets_its_transport_go_though_somebody_could_write() {
    let pipe = Pipe::with_room(1000);
    let link = Running::start(&pipe, true).await;
    assert_eq!(Arc::strong_count(&pipe.0), 2);
    link.task.abort();
    assert!(link.task.await.unwrap_err().is_cancelled());
    assert_eq!(Arc::strong_count(&pipe.0), 1);
    link.way.send(vec![small(1)], true);
    assert_eq!(pipe.taken(), 0);
}
