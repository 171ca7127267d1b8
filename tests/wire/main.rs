//! The wire: what every message is as bytes, what a link does with them, and what hostile peers get.

mod codec;
mod link;
mod messages;
mod peers;
mod proof;
