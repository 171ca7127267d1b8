//! The signals that ask a process to end.
//!
//! Owns: hearing them while somebody does, counting those that come together as one, and leaving
//! the process as it was afterwards. Does not know: what follows from a signal.
//!
//! A handler of a signal that was set cannot be taken back without unsafe code, and by then others
//! may be chained to it. So it stays, and while nobody hears the signal it does what the system
//! would have done without it.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

/// Signals within this time after one that counted are the same one: whoever sends one to a
/// process, and to its group too, means one, and a person who presses a key again has waited a
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
        loop {
            self.heard.next().await;
            if self.counted.counts(Instant::now()) {
                return;
            }
        }
    }
}

/// When the last signal was that counted.
#[derive(Default)]
struct Counted(Option<Instant>);

impl Counted {
    fn counts(&mut self, now: Instant) -> bool {
        let counts = self.0.is_none_or(|last| now - last >= SAME);
        if counts {
            self.0 = Some(now);
        }
        counts
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

    /// Whether a signal does what it does by default. Where the system does not say, it does.
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
    use super::*;

    #[test]
    fn signals_within_a_second_count_as_one() {
        let mut counted = Counted::default();
        let first = Instant::now();
        let at = |micros| first + Duration::from_micros(micros);
        assert!(counted.counts(first));
        for micros in [0, 107, 500_000, 999_999] {
            assert!(!counted.counts(at(micros)), "{micros} us");
        }
        // However many there are: each second has one.
        assert!(counted.counts(at(1_000_000)));
        assert!(!counted.counts(at(1_999_999)));
        assert!(counted.counts(at(2_000_000)));
    }
}
