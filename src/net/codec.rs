//! How messages become frames and frames messages. No sockets.
//!
//! Owns: the bytes of each message. Does not know: connections, or who sends what.
//!
//! - [`message`]: the codec as a whole, and what it reads from a peer;
//! - [`framing`]: frames, and large args and outputs in chunks; `frame`: the numbers of their
//!   kinds;
//! - `control`: rare messages, as maps;
//! - `bulk`: assignments and reports, as arrays of `items`.

pub(crate) mod bulk;
pub(crate) mod control;
pub(crate) mod frame;
pub mod framing;
pub(crate) mod items;
pub mod message;
