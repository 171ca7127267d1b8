//! The count of steps, of each thread by itself.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn count() {
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// Returns how many steps this takes.
pub(crate) fn steps_of(work: impl FnOnce()) -> u64 {
    let before = STEPS.with(Cell::get);
    work();
    STEPS.with(Cell::get) - before
}
