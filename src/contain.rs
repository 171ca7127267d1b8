//! Code of others, run so that its panic costs no more than what it says.
//!
//! Owns: catching a panic, its words, and its place in the code. Does not know: whose code it is, or what becomes
//! of the words.
//!
//! Only a hook is told where a panic was raised, and a process has one hook. So one is put before whichever is
//! set when the first threads for handlers start; it notes the place and calls that. A hook that is set later, and
//! does not call the one that it found, leaves panics without a place.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread;

thread_local! {
    /// Where the last panic of this thread was raised.
    static PLACE: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// What a panic said, and where it was raised, as file and line, if that is known.
pub(crate) struct Panic {
    pub message: String,
    pub place: Option<Box<str>>,
}

/// Has the places of panics noted from now on.
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

/// As [`contained`], for what a user wants to find in the code.
pub(crate) fn contained_with_place<R>(user: impl FnOnce() -> R) -> Result<R, Panic> {
    contained(user).map_err(|message| Panic {
        message,
        place: PLACE.take(),
    })
}

/// Runs what belongs to somebody else: a panic costs nothing but its message.
///
/// What `user` borrows is seen again after a panic, so it must be whole at every place that may panic.
#[inline]
pub(crate) fn contained<R>(user: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(user)).map_err(panic_message)
}

/// Runs what belongs to somebody else, where nobody needs to know that it panicked: the panic's own hook
/// has told it.
pub(crate) fn shielded(user: impl FnOnce()) {
    // What a panic says changes nothing here.
    let _ = contained(user);
}

/// What a panic said.
pub(crate) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = panic.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    // What was thrown may panic again when it is dropped; then it is better leaked.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    message
}
