//! What peers say, fit for a log, and addresses as text.
//!
//! Owns: how long it may be, which characters are shown, and how an address is spelled. Does not
//! know: who said it, or why.

use std::net::{IpAddr, SocketAddr};

use crate::task::is_hidden;

/// The longest text of a peer that is read, sent or shown, in bytes.
pub(super) const MAX_MESSAGE: usize = 1024;

/// Returns text without hidden characters, cut at [`MAX_MESSAGE`]. What is so already stays the
/// same.
pub(super) fn printable(text: &str) -> String {
    let mut legible = String::with_capacity(text.len().min(MAX_MESSAGE));
    for c in text.chars() {
        let c = if is_hidden(c) { '.' } else { c };
        if legible.len() + c.len_utf8() > MAX_MESSAGE {
            break;
        }
        legible.push(c);
    }
    legible
}

/// Returns the same of bytes that may be no text.
pub(super) fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(
        &bytes[..bytes.len().min(MAX_MESSAGE)],
    ))
}

/// Returns an address as both sides of a link spell it: an IPv4 one as such, whatever socket has
/// it, and without the scope, which is a number of this machine's own.
pub(crate) fn spelled(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// Returns its host as it stands before `:port`, so that it can be dialled from this machine: with
/// the scope, without which a link-local address is nobody's.
pub(super) fn host(address: SocketAddr) -> String {
    match (address.ip().to_canonical(), address) {
        (IpAddr::V4(ip), _) => ip.to_string(),
        (IpAddr::V6(ip), SocketAddr::V6(with)) if with.scope_id() != 0 => {
            format!("[{ip}%{}]", with.scope_id())
        }
        (IpAddr::V6(ip), _) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g8_a_link_local_host_is_dialled_with_its_scope_and_compared_without() {
        let address: SocketAddr = "[fe80::1%7]:500".parse().unwrap();
        assert_eq!(host(address), "[fe80::1%7]");
        let again: SocketAddr = format!("{}:500", host(address)).parse().unwrap();
        assert_eq!(again, address);
        assert_eq!(spelled(address), "[fe80::1]:500");
    }

    #[test]
    fn g8_an_ipv4_address_is_the_same_on_a_socket_of_both_families() {
        let mapped: SocketAddr = "[::ffff:10.0.0.2]:500".parse().unwrap();
        assert_eq!(
            (spelled(mapped), host(mapped)),
            ("10.0.0.2:500".into(), "10.0.0.2".into())
        );
        let plain: SocketAddr = "10.0.0.2:500".parse().unwrap();
        assert_eq!(spelled(plain), spelled(mapped));
    }
}
