//! The wire: what every message is as bytes, what a link does with them, and what hostile peers
//! get.

#![allow(clippy::unwrap_used)] // The helpers of tests are tests.

#[cfg(feature = "tls")]
#[path = "../certificates/mod.rs"]
mod certificates;

mod codec;
mod link;
#[cfg(feature = "tls")]
mod log;
mod messages;
mod peers;
mod proof;
#[cfg(feature = "tls")]
mod tls;
