//! Where a scheduler's records outlast its process.
//!
//! Owns: the seam between the records and what keeps them, and the words for all that may be wrong
//! there. Does not know: when a record is written, or what follows from it: see
//! [`engine::record`](crate::engine::record) and [`engine::ledger`](crate::engine::ledger).
//!
//! [`codec`] writes records as bytes and [`row`] cuts a batch of them into rows.

pub mod codec;
pub mod row;
