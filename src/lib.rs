//! callboard
#![allow(missing_docs)]

pub mod actors;
pub mod clock;
pub mod config;
mod encoding;
pub mod engine;
pub mod error;
pub mod execute;
pub mod handlers;
pub mod inbox;
pub mod net;
pub mod retry;
pub mod stats;
pub mod status;
pub mod task;
