//! See `tests/spans.rs`.
