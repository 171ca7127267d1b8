//! Where panics of handlers are raised.
//!
//! Owns: the place of a thread's last panic, and the hook that notes it. Does not know: whose panic
//! it is.
//!
//! Only a hook is told where a panic was raised, and a process has one hook. So one is put before
//! whichever is set when the first threads for handlers start; it notes the place and calls that. A
//! hook that is set later, and does not call the one that it found, leaves panics without a place.

use std::cell::RefCell;
use std::sync::Once;
use std::thread;

use crate::contain::contained;

thread_local! {
    /// Where the last panic of this thread was raised.
    static PLACE: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// What a panic said, and where it was raised, as file and line, if that is known.
pub(crate) struct Panic {
    pub message: String,
    pub place: Option<Box<str>>,
}

/// Notes the places of panics from now on.
pub(crate) fn note_places() {
    static ONCE: Once = Once::new();
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic
                .location()
                .map(|at| format!("{}:{}", at.file(), at.line()));
            // A thread that ends, or a panic within this, has none to note.
            let _ = PLACE.try_with(|last| {
                if let Ok(mut last) = last.try_borrow_mut() {
                    *last = place.map(Into::into);
                }
            });
            before(panic);
        }));
    });
}

/// Runs what [`contained`] would, for what a user wants to find in the code: a panic comes with its
/// place.
#[inline]
pub(crate) fn contained_with_place<R>(user: impl FnOnce() -> R) -> Result<R, Panic> {
    contained(user).map_err(|message| Panic {
        message,
        place: PLACE.take(),
    })
}
