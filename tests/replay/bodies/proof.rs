//! The greeting and the proof, with a peer that says anything, and with a wire that changes what is
//! said.
//!
//! Owns: who may be let in by what. Does not know: sockets.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use callboard::__internals::net::handshake::Side;
use callboard::__internals::net::trust::prove;
use callboard::__internals::net::{Role, Secret, Trust};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use super::input::Input;

/// More turns than two sides that answer each other byte by byte need.
const TURNS: usize = 256;

thread_local! {
    /// Whose clock the exchange asks for; it stands still.
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads");
}

/// Runs an input, whose first byte says who takes part.
pub fn run(data: &[u8]) {
    RUNTIME.with(|runtime| {
        let _entered = runtime.enter();
        exchange(data);
    });
}

fn exchange(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let side = if mode & 1 == 0 {
        Side::Dialler
    } else {
        Side::Acceptor
    };
    let role = if mode & 2 == 0 {
        Role::Scheduler
    } else {
        Role::Node
    };
    let trust = if mode & 4 == 0 { Trust::Open } else { secret() };
    if mode & 8 == 0 {
        stranger(input, side, role, &trust);
    } else {
        tampered(input, &trust);
    }
}

fn secret() -> Trust {
    Trust::Secret(Secret::new("sixteen bytes or more").expect("it is long enough"))
}

/// Plays a peer that says these bytes and then nothing.
fn stranger(mut input: Input, side: Side, role: Role, trust: &Trust) {
    let said = Wire::new(input.rest(), Vec::new());
    said.close();
    let heard = Wire::new(&[], Vec::new());
    let mut proving = pin!(prove(said, heard.clone(), side, role, trust));
    let proved = finish(proving.as_mut()).expect("nothing more will come");
    let bytes = heard.len();
    assert!(bytes < 4096, "a stranger was sent {bytes} bytes");
    if matches!(trust, Trust::Secret(_)) {
        assert!(proved.is_err(), "g11: bytes out of nowhere were a proof");
    }
}

/// Plays two that trust each other, and somebody between them who changes bytes.
fn tampered(mut input: Input, trust: &Trust) {
    let mut changes = |count| -> Vec<(usize, u8)> {
        (0..count)
            .map(|_| (usize::from(input.byte()), input.byte()))
            .collect()
    };
    let (there, back) = (changes(2), changes(2));
    // A change by nothing is none.
    let changed = there.iter().chain(&back).any(|&(_, by)| by != 0);
    let (up, down) = (Wire::new(&[], there), Wire::new(&[], back));
    let mut dialler = pin!(prove(
        down.clone(),
        up.clone(),
        Side::Dialler,
        Role::Scheduler,
        trust
    ));
    let mut acceptor = pin!(prove(
        up.clone(),
        down.clone(),
        Side::Acceptor,
        Role::Node,
        trust
    ));
    let (mut first, mut second) = (None, None);
    for turn in 0..TURNS {
        if turn == TURNS / 2 {
            // Each may wait for what the other will not say; that is what the time limit is for.
            up.close();
            down.close();
        }
        if first.is_none() {
            first = poll(dialler.as_mut()).map(|proved| {
                up.close();
                proved.is_ok()
            });
        }
        if second.is_none() {
            second = poll(acceptor.as_mut()).map(|proved| {
                down.close();
                proved.is_ok()
            });
        }
    }
    let (first, second) = (first.expect("it ends"), second.expect("it ends"));
    if matches!(trust, Trust::Secret(_)) && (up.was_changed() || down.was_changed()) {
        assert!(
            !(first && second),
            "g11: what was changed on the way was proved"
        );
    }
    if !changed {
        assert!(
            first && second,
            "two that know the secret do not trust each other"
        );
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn finish<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    (0..TURNS).find_map(|_| poll(future.as_mut()))
}

/// One direction. Clones are the same.
#[derive(Clone)]
struct Wire(Arc<Mutex<Held>>);

struct Held {
    bytes: VecDeque<u8>,
    passed: usize,
    /// Where which bits are turned.
    changes: Vec<(usize, u8)>,
    changed: bool,
    closed: bool,
}

impl Wire {
    fn new(bytes: &[u8], changes: Vec<(usize, u8)>) -> Self {
        Self(Arc::new(Mutex::new(Held {
            bytes: bytes.iter().copied().collect(),
            passed: 0,
            changes,
            changed: false,
            closed: false,
        })))
    }

    fn with<R>(&self, act: impl FnOnce(&mut Held) -> R) -> R {
        act(&mut self.0.lock().expect("nobody panics with it"))
    }

    fn close(&self) {
        self.with(|held| held.closed = true);
    }

    fn len(&self) -> usize {
        self.with(|held| held.bytes.len())
    }

    fn was_changed(&self) -> bool {
        self.with(|held| held.changed)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|held| {
            if held.bytes.is_empty() {
                return if held.closed {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            while buffer.remaining() > 0
                && let Some(byte) = held.bytes.pop_front()
            {
                buffer.put_slice(&[byte]);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|held| {
            for &byte in bytes {
                let at = held.passed;
                let turned = held.changes.iter().filter(|change| change.0 == at);
                let by = turned.fold(0, |by, change| by ^ change.1);
                held.changed |= by != 0;
                held.bytes.push_back(byte ^ by);
                held.passed += 1;
            }
        });
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}
