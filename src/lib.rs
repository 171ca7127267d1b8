//! callboard
#![allow(missing_docs)]

pub mod config;
pub mod engine;
pub mod error;
pub mod inbox;
pub mod net;
pub mod retry;
pub mod stats;
pub mod status;
pub mod task;
