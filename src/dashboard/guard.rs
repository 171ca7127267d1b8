//! What keeps a page of somebody else from acting in the name of a person who looks at this one.
//!
//! Owns: the token, what counts as the same origin, and the headers of every answer. Does not
//! know: who may do what.
//!
//! A browser sends cookies, passwords of HTTP Basic and certificates by itself, also for a form on
//! a page from elsewhere. So a change needs more: a token that only a page of this dashboard has,
//! and the browser's word that the request comes from the same origin. A request that is no form
//! and has an `Authorization` header needs no token: a page from elsewhere can send neither without
//! asking first, and nobody here answers that.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{
    self, AUTHORIZATION, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use actix_web::{HttpRequest, HttpResponse};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::access::host;
use super::wrong::Wrong;

/// How long a token holds: a page that was left open for longer is to be reloaded.
const HOLDS: Duration = Duration::from_secs(12 * 60 * 60);

/// How a token begins: the moment of its making, in seconds, as hexadecimal digits.
const MOMENT_DIGITS: usize = 16;

/// Nothing but what this server serves, nothing inline, and in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// How a changing request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As a form of a page.
    Form,
    /// As JSON, which no form can send.
    Json,
}

/// What a browser says of where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Same,
    Other,
    Unsaid,
}

/// Returns the key of this process, by which tokens are made and known again.
fn key() -> Hmac<Sha256> {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system gives random bytes");
        key
    });
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn sign(moment: &str, user: &str) -> Hmac<Sha256> {
    let mut mac = key();
    mac.update(b"callboard dashboard\0");
    mac.update(moment.as_bytes());
    mac.update(user.as_bytes());
    mac
}

/// Returns a token for a person, made at this time.
pub fn token(user: &str, now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let moment = format!("{seconds:016x}");
    let signature = sign(&moment, user).finalize().into_bytes();
    let digits = signature.iter().map(|byte| format!("{byte:02x}"));
    moment + &digits.collect::<String>()
}

/// Returns whether a token was made by this process, for this person, and holds still.
fn holds(token: &str, user: &str, now: SystemTime) -> bool {
    let Some((moment, signature)) = token.split_at_checked(MOMENT_DIGITS) else {
        return false;
    };
    let Some(signature) = bytes_of(signature) else {
        return false;
    };
    let made = u64::from_str_radix(moment, 16).unwrap_or(0);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // In constant time.
    let is_ours = sign(moment, user).verify_slice(&signature).is_ok();
    is_ours && now.abs_diff(made) <= HOLDS.as_secs()
}

/// Returns the bytes that hexadecimal digits stand for.
fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// Lets a changing request through if it can only come from a page of this dashboard, or from a
/// program that has proved itself by `Authorization`.
///
/// # Errors
///
/// It may come from elsewhere.
pub fn let_through(
    req: &HttpRequest,
    way: Way,
    token: Option<&str>,
    user: &str,
) -> Result<(), Wrong> {
    let source = source(req.headers(), host(req));
    if source == Source::Other {
        return Err(Wrong::forbidden(
            "the request comes from a page of another origin, which may change nothing here",
        ));
    }
    if way == Way::Json && req.headers().contains_key(AUTHORIZATION) {
        return Ok(());
    }
    if source == Source::Unsaid {
        return Err(Wrong::forbidden(
            "the request does not say from where it comes: send an `Authorization` with JSON, or \
             the `Origin` of this server",
        ));
    }
    if token.is_some_and(|token| holds(token, user, SystemTime::now())) {
        Ok(())
    } else {
        Err(Wrong::forbidden(
            "the token of the page is missing, too old, or another one's: reload the page and try \
             again",
        ))
    }
}

/// Returns from where a request comes. A browser leaves out `Sec-Fetch-Site` on plain HTTP, but
/// then sends the `Origin` of a form; a proxy may change the host, but not what
/// `Sec-Fetch-Site` says.
fn source(headers: &HeaderMap, host: Option<&str>) -> Source {
    if let Some(site) = headers.get("sec-fetch-site") {
        return match site.as_bytes() {
            b"same-origin" => Source::Same,
            _ => Source::Other,
        };
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Source::Unsaid;
    };
    let place = origin.to_str().ok().and_then(|it| it.split_once("://"));
    match (place, host) {
        (Some((scheme, place)), Some(host)) => {
            let port = if scheme == "https" { ":443" } else { ":80" };
            let bare = |name: &str| name.strip_suffix(port).unwrap_or(name).to_lowercase();
            if bare(place) == bare(host) {
                Source::Same
            } else {
                Source::Other
            }
        }
        _ => Source::Other,
    }
}

/// Gives an answer the headers that every one has.
pub fn dress(mut answer: HttpResponse) -> HttpResponse {
    let headers = answer.headers_mut();
    let all = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: a browser then sends `Origin: null` with the forms of these pages.
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = of.iter().map(|&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn a_token_is_that_of_one_person_for_half_a_day() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ours = token("ada", now);
        assert!(holds(&ours, "ada", now + HOLDS));
        assert!(!holds(&ours, "ada", now + HOLDS + Duration::from_secs(1)));
        assert!(!holds(&ours, "bob", now));
        let mut forged = ours.clone();
        forged.replace_range(..1, "1");
        for wrong in [&forged, &ours[1..], &ours[..20], "", "é", &"g".repeat(80)] {
            assert!(!holds(wrong, "ada", now), "{wrong}");
        }
    }

    #[test]
    fn only_the_same_origin_is_the_same() {
        let same: [(&[_], _); 5] = [
            (&[("origin", "http://a.org")], "a.org"),
            (&[("origin", "https://a.org")], "A.org:443"),
            (&[("origin", "http://a.org:8080")], "a.org:8080"),
            // Behind a proxy that names itself as the host.
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "https://a.org"),
                ],
                "10.0.0.1",
            ),
            (&[("sec-fetch-site", "same-origin")], "a.org"),
        ];
        for (sent, host) in same {
            assert_eq!(source(&headers(sent), Some(host)), Source::Same, "{sent:?}");
        }
        let other: [&[_]; 6] = [
            &[("origin", "null")],
            &[("origin", "http://b.org")],
            &[("origin", "http://a.org:8080")],
            &[("origin", "http://a.org.b.org")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://a.org")],
            &[("sec-fetch-site", "same-site")],
        ];
        for sent in other {
            let found = source(&headers(sent), Some("a.org"));
            assert_eq!(found, Source::Other, "{sent:?}");
        }
        assert_eq!(source(&headers(&[]), Some("a.org")), Source::Unsaid);
    }
}
