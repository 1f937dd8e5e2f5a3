//! The addresses at which labs listen, as `--control` and `--metrics` have them, and `ctl` too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// What stands before an address that is no path.
const TCP: &str = "tcp:";

/// An address at which a lab is controlled. Displays as it is written: `lab.sock`, `tcp:127.0.0.1:8080`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlAddress {
    /// The path of a Unix socket.
    Path(PathBuf),
    /// A TCP port of an interface.
    Tcp(SocketAddr),
}

impl FromStr for ControlAddress {
    type Err = &'static str;

    /// # Errors
    /// With what is expected: names are not looked up.
    fn from_str(text: &str) -> Result<ControlAddress, &'static str> {
        let parts = text.split_at_checked(TCP.len());
        let tcp = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(TCP));
        match tcp.map(|(_, address)| address) {
            Some(address) => socket_address(address).map(ControlAddress::Tcp).ok_or(
                "expected tcp: and an address with a port, such as tcp:127.0.0.1:8080 or tcp:[::1]:8080",
            ),
            None if ["", "-"].contains(&text) => {
                Err("expected the path of a Unix socket, or tcp:127.0.0.1:PORT")
            }
            None => Ok(ControlAddress::Path(text.into())),
        }
    }
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlAddress::Path(path) => path.display().fmt(f),
            ControlAddress::Tcp(address) => write!(f, "{TCP}{address}"),
        }
    }
}

/// Reads an address with its port; `localhost` is 127.0.0.1. `None` if it is none, or a name that would have to be looked up.
pub fn socket_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(
            Ipv4Addr::LOCALHOST.into(),
            port.parse().ok()?,
        )),
        None => text.parse().ok(),
    }
}

/// Returns true if only processes of this machine reach `address`.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_a_tcp_port_of_a_numeric_address() {
        for (text, is_tcp, shown) in [
            ("lab.sock", false, "lab.sock"),
            ("/run/tcp:1", false, "/run/tcp:1"),
            ("./tcp:127.0.0.1:1", false, "./tcp:127.0.0.1:1"),
            ("tcp:127.0.0.1:8080", true, "tcp:127.0.0.1:8080"),
            ("tcp:localhost:0", true, "tcp:127.0.0.1:0"),
            ("TCP:127.0.0.1:0", true, "tcp:127.0.0.1:0"),
            ("./TCP:1", false, "./TCP:1"),
            ("tcp:[::1]:65535", true, "tcp:[::1]:65535"),
            ("tcp:0.0.0.0:80", true, "tcp:0.0.0.0:80"),
        ] {
            let address: ControlAddress = text.parse().unwrap();
            assert_eq!(matches!(address, ControlAddress::Tcp(_)), is_tcp, "{text}");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address), "{text}");
        }
        for text in [
            "",
            "-",
            "tcp:",
            "tcp:8080",
            "TCP:8080",
            "tcp:127.0.0.1",
            "tcp:::1:80",
            "tcp:127.0.0.1:65536",
            "tcp:lab.example:80",
            "tcp:localhost",
            "tcp:localhost:-1",
            "tcp: 127.0.0.1:80",
        ] {
            let error = text.parse::<ControlAddress>().unwrap_err();
            assert!(error.starts_with("expected "), "{text}: {error}");
        }
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_one_is_as_near_as_by_itself() {
        for (text, is_near) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:10.0.0.5", false),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.5", false),
            ("::2", false),
        ] {
            assert_eq!(is_loopback(text.parse().unwrap()), is_near, "{text}");
        }
    }
}
