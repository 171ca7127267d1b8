//! Code of others, run so that its panic costs no more than what it says.
//!
//! Owns: catching a panic, and its words. Does not know: whose code it is, where the panic was
//! raised, or what becomes of the words.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what belongs to somebody else: a panic costs nothing but its message.
///
/// What `user` borrows is seen again after a panic, so it must be whole at every place that may
/// panic.
#[inline]
pub(crate) fn contained<R>(user: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(user)).map_err(panic_message)
}

/// Runs what belongs to somebody else, where nobody needs to know that it panicked: the panic's own
/// hook has told it.
pub(crate) fn shielded(user: impl FnOnce()) {
    // What a panic says changes nothing here.
    let _ = contained(user);
}

/// Returns what a panic said.
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
