//! The files that pages load: a style and a script, both small and both ours.
//!
//! Owns: their texts, and the mark in their addresses that changes with them. Does not know: which
//! page loads them.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use sha2::{Digest, Sha256};

/// A file that pages load.
#[derive(Debug)]
pub struct Asset {
    /// Its address below the scope.
    pub path: &'static str,
    content_type: &'static str,
    text: &'static str,
    mark: LazyLock<String>,
}

/// How pages look.
pub static STYLE: Asset = Asset {
    path: "style.css",
    content_type: "text/css; charset=utf-8",
    text: include_str!("assets/style.css"),
    mark: LazyLock::new(|| mark(include_str!("assets/style.css"))),
};

/// How pages move.
pub static SCRIPT: Asset = Asset {
    path: "live.js",
    content_type: "text/javascript; charset=utf-8",
    text: include_str!("assets/live.js"),
    mark: LazyLock::new(|| mark(include_str!("assets/live.js"))),
};

/// Returns a few letters that change with a text.
fn mark(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

impl Asset {
    /// Returns its mark. A browser keeps the file until that changes.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Answers with it.
    pub fn answer(&self) -> HttpResponse {
        HttpResponse::Ok()
            .content_type(self.content_type)
            .insert_header((CACHE_CONTROL, "private, max-age=86400"))
            .body(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_short_and_writes_no_styles() {
        let lines = SCRIPT.text.lines().count();
        assert!(lines < 150, "the script has {lines} lines");
        for word in [".style", "eval(", "document.write"] {
            assert!(!SCRIPT.text.contains(word), "the policy forbids {word}");
        }
    }
}
