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

    /// Returns its text.
    pub fn text(&self) -> &'static str {
        self.text
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

    /// Returns the relative luminance of a colour such as `#0550ae`, as WCAG 2 has it.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn the_colours_of_both_schemes_differ_as_much_as_aa_asks() {
        let (light, rest) = STYLE.text.split_once("@media").unwrap();
        let (dark, rest) = rest.split_once("\n}\n").unwrap();
        for scheme in [light, dark] {
            let colour = |name: &str| {
                let (_, after) = scheme.split_once(&format!("--{name}: ")).unwrap();
                &after[..7]
            };
            for ground in ["back", "face"] {
                for text in ["fore", "soft", "link", "bad", "warn", "good"] {
                    let ratio = contrast(colour(text), colour(ground));
                    assert!(ratio >= 4.5, "the text {text} on {ground}: {ratio}");
                }
                let signs = [
                    "busy", "taken", "idle", "ahead", "one", "two", "three", "four",
                ];
                for sign in signs {
                    let ratio = contrast(colour(sign), colour(ground));
                    assert!(ratio >= 3.0, "{sign} on {ground}: {ratio}");
                }
            }
        }
        // White stands on the header of every colour.
        let headers: Vec<_> = rest
            .lines()
            .filter(|line| line.starts_with("header"))
            .collect();
        let grounds = headers
            .iter()
            .flat_map(|line| line.split("background: ").skip(1));
        let grounds: Vec<_> = grounds.map(|ground| &ground[..7]).collect();
        assert_eq!(grounds.len(), 5, "{headers:?}");
        for ground in grounds {
            assert!(contrast("#ffffff", ground) >= 4.5, "{ground}");
        }
    }
}
