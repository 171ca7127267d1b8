//! How much is gone through, counted in tests alone.
//!
//! Owns: the place at which each step is told. Does not know: what is counted. A loop over nodes,
//! classes or tasks in a turn counts each of them, so a test can say that a turn costs no more
//! beside a thousand others.

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::steps_of;

/// Counts one more thing that is gone through.
#[inline(always)]
pub(crate) fn step() {
    #[cfg(test)]
    tests::count();
}
