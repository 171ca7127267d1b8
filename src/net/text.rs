//! What peers say, fit for a log.
//!
//! Owns: how long it may be, and which characters are shown. Does not know: who said it, or why.

use crate::task::is_hidden;

/// The longest words of a peer that are read, sent or shown, in bytes.
pub(super) const MAX_WORDS: usize = 1024;

/// Returns words without hidden characters, cut at [`MAX_WORDS`]. What is so already stays the
/// same.
pub(super) fn printable(words: &str) -> String {
    let mut legible = String::with_capacity(words.len().min(MAX_WORDS));
    for c in words.chars() {
        let c = if is_hidden(c) { '.' } else { c };
        if legible.len() + c.len_utf8() > MAX_WORDS {
            break;
        }
        legible.push(c);
    }
    legible
}

/// Returns the same of bytes that may be no text.
pub(super) fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(
        &bytes[..bytes.len().min(MAX_WORDS)],
    ))
}
