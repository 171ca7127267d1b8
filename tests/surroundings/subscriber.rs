//! A subscriber of tracing that panics.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What a subscriber is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Call {
    Nothing,
    Enabled,
    Event,
    NewSpan,
    Enter,
    Exit,
    CloneSpan,
    TryClose,
}

impl Call {
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Enabled,
        Self::Event,
        Self::NewSpan,
        Self::Enter,
        Self::Exit,
        Self::CloneSpan,
        Self::TryClose,
    ];
}

/// The call at which all subscribers of this process panic.
static WORST: AtomicU8 = AtomicU8::new(Call::Nothing as u8);
/// How often one has panicked since the worst call was set.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Takes all that is told, and panics at one kind of call, each time.
pub struct Panicking;

impl Panicking {
    pub fn at(call: Call) {
        WORST.store(call as u8, Ordering::SeqCst);
        PANICS.store(0, Ordering::SeqCst);
    }

    pub fn panics() -> u64 {
        PANICS.load(Ordering::SeqCst)
    }

    fn called(call: Call) {
        if WORST.load(Ordering::SeqCst) == call as u8 {
            PANICS.fetch_add(1, Ordering::SeqCst);
            // Without the hook, which would write a line for each.
            std::panic::resume_unwind(Box::new("a subscriber"));
        }
    }
}

impl Subscriber for Panicking {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.target().starts_with("callboard") {
            Self::called(Call::Enabled);
        }
        true
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        // Asked each time.
        tracing::subscriber::Interest::sometimes()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Self::called(Call::NewSpan);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        Self::called(Call::Event);
    }

    fn enter(&self, _: &Id) {
        Self::called(Call::Enter);
    }

    fn exit(&self, _: &Id) {
        Self::called(Call::Exit);
    }

    fn clone_span(&self, id: &Id) -> Id {
        Self::called(Call::CloneSpan);
        id.clone()
    }

    fn try_close(&self, _: Id) -> bool {
        Self::called(Call::TryClose);
        true
    }
}
