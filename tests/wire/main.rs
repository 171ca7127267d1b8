//! The wire: what every message is as bytes, what a link does with them, and what hostile peers get.

#![allow(clippy::unwrap_used)] // The helpers of tests are tests.

mod codec;
mod link;
mod messages;
mod peers;
mod proof;
