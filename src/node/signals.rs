//! The signals that ask a process to end.
//!
//! Owns: hearing them while somebody does, counting those that come together as one, and leaving
//! the process as it was afterwards. Does not know: what follows from a signal.
//!
//! A handler of a signal that was set cannot be taken back without unsafe code, and by then others
//! may be chained to it. So it stays, and while nobody hears the signal it does what the system
//! would have done without it.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Signals within this time after one that counted are the same one: a program that signals a
/// process, and its group too, means one signal, and a person who presses a key again has waited a
/// little.
const SAME: Duration = Duration::from_secs(1);

/// See the module. Hears them from its making to its end.
pub(super) struct Signals {
    heard: system::Heard,
    counted: Counted,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            heard: system::Heard::new()?,
            counted: Counted::default(),
        })
    }

    /// Waits for the next one that counts. Safe to drop and call again.
    pub async fn next(&mut self) {
        let heard = &mut self.heard;
        self.counted.next(async || heard.next().await).await;
    }
}

/// While there is one, signals are the one that counted last.
#[derive(Default)]
struct Counted(Option<Pin<Box<Sleep>>>);

impl Counted {
    /// Waits for the next signal that counts; `heard` waits for the next signal.
    async fn next(&mut self, mut heard: impl AsyncFnMut()) {
        while let Some(same) = &mut self.0 {
            // The system does not say when a signal was sent. So what has come by the time at which
            // this is looked at was sent before, however late a busy machine looks.
            tokio::select! {
                biased;
                () = heard() => {}
                () = same => self.0 = None,
            }
        }
        heard().await;
        self.0 = Some(Box::pin(sleep(SAME)));
    }
}

#[cfg(unix)]
mod system {
    use std::io;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag::register_conditional_default;
    use tokio::signal::unix::{Signal, SignalKind, signal};

    use crate::sync::lock;

    /// Whether nobody hears the signals.
    static UNHEARD: AtomicBool = AtomicBool::new(true);

    static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners {
        count: 0,
        prepared: false,
    });

    struct Listeners {
        count: usize,
        /// Whether it was arranged what happens while nobody hears the signals.
        prepared: bool,
    }

    pub struct Heard {
        terminate: Signal,
        interrupt: Signal,
        _listener: Listener,
    }

    impl Heard {
        pub fn new() -> io::Result<Self> {
            Ok(Self {
                _listener: Listener::begin()?,
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }

        pub async fn next(&mut self) {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
    }

    /// While it is there, the signals do nothing but being heard.
    struct Listener;

    impl Listener {
        fn begin() -> io::Result<Self> {
            let mut listeners = lock(&LISTENERS);
            if !listeners.prepared {
                for signal in [SIGTERM, SIGINT] {
                    // Whatever else was arranged for it goes on.
                    if has_default(signal) {
                        register_conditional_default(signal, &UNHEARD)?;
                    }
                }
                listeners.prepared = true;
            }
            listeners.count += 1;
            UNHEARD.store(false, Ordering::SeqCst);
            Ok(Self)
        }
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            let mut listeners = lock(&LISTENERS);
            listeners.count -= 1;
            UNHEARD.store(listeners.count == 0, Ordering::SeqCst);
        }
    }

    /// Returns whether a signal does what it does by default. Where the system does not say, it
    /// does.
    fn has_default(signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let in_set = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
            set.is_some_and(|set| set >> (signal - 1) & 1 == 1)
        };
        !in_set("SigCgt:") && !in_set("SigIgn:")
    }
}

#[cfg(not(unix))]
mod system {
    use std::io;

    pub struct Heard;

    impl Heard {
        pub fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub async fn next(&mut self) {
            // Where Ctrl-C cannot be heard, the node ends by other means only.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::poll;
    use tokio::sync::Notify;
    use tokio::time::advance;

    use super::*;

    /// Signals that a test sends, as the system keeps them: two that are not yet heard are one.
    #[derive(Default)]
    struct Sent {
        signal: Notify,
        counted: Counted,
    }

    impl Sent {
        fn send(&self) {
            self.signal.notify_one();
        }

        /// Returns whether one counts, looked at now.
        async fn counts(&mut self) -> bool {
            let next = self.counted.next(async || self.signal.notified().await);
            tokio::pin!(next);
            poll!(next) == Poll::Ready(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn signals_within_a_second_count_as_one() {
        let mut sent = Sent::default();
        assert!(!sent.counts().await);
        sent.send();
        assert!(sent.counts().await);
        for millis in [0, 1, 500, 498] {
            advance(Duration::from_millis(millis)).await;
            sent.send();
            assert!(!sent.counts().await, "{millis} ms later");
        }
        // However many there are: each second has one.
        advance(Duration::from_millis(2)).await;
        assert!(!sent.counts().await);
        sent.send();
        assert!(sent.counts().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_at_once_is_the_first_however_late_it_is_looked_at() {
        let mut sent = Sent::default();
        sent.send();
        assert!(sent.counts().await);
        sent.send();
        advance(Duration::from_secs(5)).await;
        assert!(!sent.counts().await);
        sent.send();
        assert!(sent.counts().await);
    }
}
