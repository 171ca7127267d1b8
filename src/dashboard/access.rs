//! What a request may do.
//!
//! Owns: the levels, and who asks from this machine. Does not know: what needs which level.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::HOST;

/// What a request may do. Each level may all that those before it may.
///
/// ```
/// use callboard::dashboard::Access;
///
/// assert!(Access::None < Access::Read && Access::Operate < Access::Full);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Nothing but to hear in one word whether all is well (`/health`).
    #[default]
    None,
    /// See everything but args and outputs; change nothing.
    Read,
    /// Also pause, resume, limit, cancel, drain, set workers, run again, and set marks.
    Operate,
    /// Also see args and outputs, remove nodes, and declare them dead.
    Full,
}

impl Access {
    /// Returns [`Access::Full`] for a request that comes from this machine, and [`Access::None`]
    /// for any other: for trying out.
    ///
    /// The peer must be a loopback address, the `Host` must name one (so that no page from
    /// elsewhere can ask by a name of its own), and no header may tell of a proxy: neither
    /// `Forwarded` nor any `X-Forwarded-*`. A proxy on this machine that sets none of these passes
    /// for this machine: behind one, give a judge of your own.
    ///
    /// ```no_run
    /// use callboard::dashboard::{self, Access};
    ///
    /// let dashboard = dashboard::scope("/tasks").access(Access::loopback);
    /// ```
    pub fn loopback(req: &HttpRequest) -> Self {
        let peer = req.peer_addr().map(|peer| peer.ip());
        let from_here = peer.is_some_and(is_loopback);
        let proxied = req.headers().keys().any(|name| {
            let name = name.as_str();
            name == "forwarded" || name.starts_with("x-forwarded-")
        });
        if from_here && !proxied && host(req).is_some_and(names_loopback) {
            Self::Full
        } else {
            Self::None
        }
    }
}

impl Access {
    /// Returns its name in the JSON API.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Full => "full",
        }
    }
}

/// Returns the host that a request is meant for, with its port if it has one; `None` if it names
/// none or several.
pub(super) fn host(req: &HttpRequest) -> Option<&str> {
    let mut named = req.headers().get_all(HOST);
    match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => req.uri().authority().map(|host| host.as_str()),
        _ => None,
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Returns whether a host, perhaps with a port, is this machine by every reading.
fn names_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or((host, "")),
        None => host.split_once(':').map_or((host, ""), |(name, _)| {
            (name, host.get(name.len()..).unwrap_or_default())
        }),
    };
    let port_is_one = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|digit| digit.is_ascii_digit()),
        None => port.is_empty(),
    };
    let named = name.eq_ignore_ascii_case("localhost");
    port_is_one && (named || name.parse().is_ok_and(is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_this_machine_does() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(names_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org:80",
            "10.0.0.1",
            "[::2]",
            "[::1].example.org",
            "localhost:80@example.org",
        ] {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
