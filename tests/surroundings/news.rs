//! What happens to the nodes of the schedulers of this process, as something to wait for.
//!
//! Owns: a subscriber of the log that tells only that something was logged. Does not know: what.

use std::sync::{LazyLock, Once};

use tokio::sync::watch;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static LOGGED: LazyLock<watch::Sender<()>> = LazyLock::new(|| watch::Sender::new(()));

/// Changes with each event that is logged from now on. Every change of the state of a node is
/// logged, after it can be asked for.
pub fn logged() -> watch::Receiver<()> {
    static ONCE: Once = Once::new();
    let logged = LOGGED.subscribe();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listening).unwrap());
    logged
}

struct Listening;

impl Subscriber for Listening {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("callboard")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        LOGGED.send_replace(());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
