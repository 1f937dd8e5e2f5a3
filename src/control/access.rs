//! Who is served at an address of a lab, and what for.
//!
//! At a Unix socket the kernel tells who comes. Over TCP it does not, so that a client shows a [token](Token), and over TCP
//! come the requests of browsers, too, which do what pages of strangers tell them. Those are known by the name that they ask for
//! (a name of the stranger's that leads to this machine: DNS rebinding), and by `Origin` (RFC 6454), which no other client sends.

use std::net::{IpAddr, SocketAddr};

use super::address::is_loopback;
use super::message::Request;
use super::{ApiError, Token, status};

/// Sockets that a lab listens at.
pub const MAX_LISTENERS: usize = 8;

/// What a client has to show at an address, and what it is served there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// All of the lab; who comes was looked at when it connected.
    User,
    /// All of the lab but what writes files, for who has the token, at this TCP address.
    Bearer(Token, SocketAddr),
    /// The metrics, for all who reach this TCP address.
    Metrics(SocketAddr),
}

impl Access {
    /// Clients that may be connected at a time with metrics alone, with that or the lab over TCP, and of all: strangers do not
    /// keep the others out.
    pub const MOST_CLIENTS: [usize; 3] = [12, 24, 32];

    /// Clients that may be connected at a time, of all addresses with this access or less.
    pub const fn most_clients(&self) -> usize {
        let [metrics, over_tcp, all] = Access::MOST_CLIENTS;
        match self {
            Access::User => all,
            Access::Bearer(..) => over_tcp,
            Access::Metrics(_) => metrics,
        }
    }

    /// Returns true if a request may name files of the lab's machine.
    pub const fn has_files(&self) -> bool {
        matches!(self, Access::User)
    }

    /// Returns true if who comes here is known to be one that may control the lab, before any request.
    pub const fn is_known(&self) -> bool {
        matches!(self, Access::User)
    }

    /// Returns true if `request` shows that its client is one that may control the lab.
    pub fn is_shown_by(&self, request: &Request) -> bool {
        !matches!(self, Access::Metrics(_)) && self.check(request).is_ok()
    }

    /// Makes sure that `request` may be carried out.
    ///
    /// # Errors
    /// If it asks for a name that is none of the lab's, comes from a page of a browser, or lacks the token.
    pub fn check(&self, request: &Request) -> Result<(), ApiError> {
        match self {
            Access::User => Ok(()),
            // Whoever reaches another address can read the metrics anyway, by any name that it has there.
            Access::Metrics(bound) if !is_loopback(bound.ip()) => Ok(()),
            Access::Metrics(bound) => check_host(*bound, &request.host),
            Access::Bearer(token, bound) => {
                check_host(*bound, &request.host)?;
                if request.has_origin {
                    let error = "the request comes from a page of a browser";
                    return Err(ApiError::new(status::FORBIDDEN, error, "no Origin"));
                }
                if !token.is_shown_by(request.credentials.as_bytes()) {
                    let error = "the request does not show the token of this lab";
                    let expected = "Authorization: Bearer and the token, once";
                    return Err(ApiError::new(status::UNAUTHORIZED, error, expected));
                }
                Ok(())
            }
        }
    }
}

/// Makes sure that `host` is a name of the address `bound`, with its port.
fn check_host(bound: SocketAddr, host: &str) -> Result<(), ApiError> {
    match is_own(bound, host) {
        true => Ok(()),
        false => {
            let error = format!("the request is for the host {host:?}");
            let expected = match bound.ip().is_unspecified() {
                true => format!("an address of this machine with the port {}", bound.port()),
                false => bound.to_string(),
            };
            Err(ApiError::new(status::MISDIRECTED, error, expected))
        }
    }
}

/// Returns true if `host` (RFC 9110, section 7.2) is a name of `bound` that no stranger can have led here: `localhost`, an
/// address of this machine's own, or the one that is listened at. If that is every address, any is, but no name.
fn is_own(bound: SocketAddr, host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // An IPv6 address has colons of its own, within brackets.
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "80"),
    };
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse() == Ok(bound.port());
    let in_brackets = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address: Option<IpAddr> = match in_brackets {
        Some(name) => name.parse().ok().map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    };
    let is_name = match address {
        None => name.eq_ignore_ascii_case("localhost"),
        Some(address) => {
            is_loopback(address)
                || bound.ip().is_unspecified()
                || address.to_canonical() == bound.ip().to_canonical()
        }
    };
    is_port && is_name
}

#[cfg(test)]
mod tests {
    use super::super::token::Credentials;
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn request(host: &str, authorization: &str, has_origin: bool) -> Request {
        Request {
            host: host.to_owned(),
            credentials: Credentials(authorization.as_bytes().to_vec()),
            has_origin,
            ..Request::default()
        }
    }

    #[test]
    fn the_host_of_a_request_is_an_address_that_no_stranger_leads_here() {
        for (bound, host, is_own_host) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", true),
            ("127.0.0.1:8080", "localhost:8080", true),
            ("127.0.0.1:8080", "LocalHost:8080", true),
            ("127.0.0.1:8080", "127.9.9.9:8080", true),
            ("127.0.0.1:8080", "[::1]:8080", true),
            ("[::1]:8080", "[::1]:8080", true),
            ("[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", true),
            ("[::1]:8080", "[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:80", "127.0.0.1", true),
            ("[::1]:80", "[::1]", true),
            ("10.0.0.5:8080", "10.0.0.5:8080", true),
            ("10.0.0.5:8080", "localhost:8080", true),
            ("0.0.0.0:8080", "10.0.0.5:8080", true),
            ("[::]:8080", "10.0.0.5:8080", true),
            ("[::]:8080", "[2001:db8::1]:8080", true),
            ("127.0.0.1:8080", "127.0.0.1", false),
            ("127.0.0.1:8080", "127.0.0.1:", false),
            ("127.0.0.1:8080", "127.0.0.1:8081", false),
            ("127.0.0.1:8080", "127.0.0.1:+8080", false),
            ("127.0.0.1:8080", "127.0.0.1:80800", false),
            ("127.0.0.1:8080", "127.0.0.1.rebind.example:8080", false),
            ("127.0.0.1:8080", "rebind.example:8080", false),
            ("127.0.0.1:8080", "localhost.rebind.example:8080", false),
            ("127.0.0.1:8080", "user@127.0.0.1:8080", false),
            ("127.0.0.1:8080", "10.0.0.5:8080", false),
            ("127.0.0.1:8080", "0.0.0.0:8080", false),
            ("127.0.0.1:8080", "[127.0.0.1]:8080", false),
            ("127.0.0.1:8080", "::1:8080", false),
            ("127.0.0.1:8080", "", false),
            ("127.0.0.1:8080", ":8080", false),
            ("127.0.0.1:8080", "lab", false),
            ("[::1]:8080", "[::2]:8080", false),
            ("[::1]:8080", "[::1]", false),
            ("10.0.0.5:8080", "10.0.0.6:8080", false),
            ("0.0.0.0:8080", "lab.example:8080", false),
            ("0.0.0.0:8080", "10.0.0.5:8081", false),
        ] {
            let bound = bound.parse().unwrap();
            assert_eq!(is_own(bound, host), is_own_host, "{host:?} at {bound}");
        }
    }

    #[test]
    fn control_over_tcp_takes_the_token_and_metrics_take_none() {
        let local: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let wide: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let bearer = |bound| Access::Bearer(TOKEN.parse().unwrap(), bound);
        let shown = format!("Bearer {TOKEN}");
        let (host, stranger) = ("localhost:8080", "lab.example:8080");
        for (access, request, status) in [
            (Access::User, request("lab", "", true), None),
            (bearer(local), request(host, &shown, false), None),
            (bearer(wide), request("10.0.0.5:8080", &shown, false), None),
            (bearer(local), request(host, "", false), Some(401)),
            (
                bearer(local),
                request(host, "Bearer 0123456789abcdeg", false),
                Some(401),
            ),
            (
                bearer(local),
                request(host, "Basic 0123456789abcdef", false),
                Some(401),
            ),
            (bearer(local), request(host, &shown, true), Some(403)),
            (bearer(local), request(stranger, &shown, false), Some(421)),
            (bearer(wide), request(stranger, &shown, false), Some(421)),
            (bearer(local), request("", &shown, false), Some(421)),
            (Access::Metrics(local), request(host, "", true), None),
            (
                Access::Metrics(local),
                request(stranger, "", false),
                Some(421),
            ),
            (Access::Metrics(wide), request(stranger, "", false), None),
        ] {
            let found = access.check(&request).err().map(|error| error.status);
            assert_eq!(found, status, "{access:?} {request:?}");
            let is_shown = status.is_none() && !matches!(access, Access::Metrics(_));
            assert_eq!(access.is_shown_by(&request), is_shown, "{access:?}");
        }
    }
}
