//! Locks that a panic does not spoil.
//!
//! Owns: the one way in which this crate takes a lock. Does not know: what is behind it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, whether or not a thread panicked while it held it. So whoever holds a lock of this
/// crate must keep what is behind it whole at every place that may panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
