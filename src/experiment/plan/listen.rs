//! The addresses at which a lab listens for requests.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{SettingError, Settings};
use crate::control::{ControlAddress, MAX_LISTENERS, is_loopback, socket_address};

/// The addresses at which a lab listens, and the token that clients over TCP need.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Listen {
    /// Those at which it is controlled.
    pub control: Vec<ControlAddress>,
    /// TCP addresses at which its metrics are read.
    pub metrics: Vec<SocketAddr>,
    /// The file with the token; without one it is in the environment.
    pub token_file: Option<PathBuf>,
}

impl Listen {
    /// Returns true if it listens nowhere.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.metrics.is_empty()
    }

    /// Returns true if some clients need a token.
    pub fn takes_token(&self) -> bool {
        let mut addresses = self.control.iter();
        addresses.any(|address| matches!(address, ControlAddress::Tcp(_)))
    }
}

/// Reads where to listen, and makes sure that who lets others of the network control the lab knows it.
pub(super) fn listen(settings: &Settings) -> Result<Listen, SettingError> {
    let insecure = settings.get("control-insecure");
    let is_insecure = settings.switch("control-insecure")?;
    let mut is_needed = false;
    let mut listen = Listen::default();
    for setting in settings.all("control") {
        let address = setting.text.parse().map_err(|why| setting.error(why))?;
        if let ControlAddress::Tcp(tcp) = address
            && !is_loopback(tcp.ip())
        {
            is_needed = true;
            if !is_insecure {
                let why = "the token and all requests would travel in the clear; expected a loopback address, or \
                           --control-insecure beside it";
                return Err(setting.error(why));
            }
        }
        listen.control.push(address);
    }
    for setting in settings.all("metrics") {
        let expected = "expected an address with a port, such as 127.0.0.1:9100 or [::1]:9100";
        let address = socket_address(&setting.text);
        let address = address.ok_or_else(|| setting.error(expected))?;
        listen.metrics.push(address);
    }
    if let Some(setting) = settings.get("metrics").or(settings.get("control"))
        && listen.control.len() + listen.metrics.len() > MAX_LISTENERS
    {
        let why = format!("expected up to {MAX_LISTENERS} addresses to listen at");
        return Err(setting.error(why));
    }
    if let Some(setting) = insecure.filter(|_| is_insecure && !is_needed) {
        let why =
            "expected --control tcp:ADDRESS:PORT beside it, with an address that is not loopback";
        return Err(setting.error(why));
    }
    if let Some(setting) = settings.get("control-token-file") {
        if !listen.takes_token() {
            return Err(setting.error("expected --control tcp:ADDRESS:PORT beside it"));
        }
        if setting.text.is_empty() {
            return Err(setting.error("expected the name of a file"));
        }
        listen.token_file = Some(PathBuf::from(&setting.text));
    }
    Ok(listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &str) -> Settings {
        let mut settings = Settings::default();
        for (name, text) in words
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
        {
            let known = [
                "control",
                "metrics",
                "control-token-file",
                "control-insecure",
            ];
            let name = known.into_iter().find(|known| *known == name).unwrap();
            settings.add_flag(name, text);
        }
        settings
    }

    #[test]
    fn a_lab_listens_at_the_addresses_that_are_asked_for() {
        for (words, control, metrics, takes_token) in [
            ("", "", "", false),
            ("control=lab.sock", "lab.sock", "", false),
            ("metrics=127.0.0.1:9100", "", "127.0.0.1:9100", false),
            ("metrics=10.0.0.5:9100", "", "10.0.0.5:9100", false),
            (
                "metrics=localhost:0 metrics=[::1]:0",
                "",
                "127.0.0.1:0 [::1]:0",
                false,
            ),
            (
                "control=lab.sock control=tcp:127.0.0.1:0 metrics=127.0.0.1:0",
                "lab.sock tcp:127.0.0.1:0",
                "127.0.0.1:0",
                true,
            ),
            (
                "control=tcp:[::ffff:127.0.0.1]:0 control-token-file=t",
                "tcp:[::ffff:127.0.0.1]:0",
                "",
                true,
            ),
            (
                "control=tcp:0.0.0.0:80 control-insecure=on",
                "tcp:0.0.0.0:80",
                "",
                true,
            ),
        ] {
            let found = listen(&settings(words)).unwrap();
            let texts: Vec<_> = found.control.iter().map(ToString::to_string).collect();
            assert_eq!(texts.join(" "), control, "{words}");
            let texts: Vec<_> = found.metrics.iter().map(ToString::to_string).collect();
            assert_eq!(texts.join(" "), metrics, "{words}");
            assert_eq!(found.takes_token(), takes_token, "{words}");
            assert_eq!(found.is_empty(), words.is_empty(), "{words}");
        }
    }

    #[test]
    fn an_address_that_others_reach_is_said_twice() {
        let many = "metrics=127.0.0.1:0 ".repeat(MAX_LISTENERS + 1);
        for (words, error) in [
            ("control=", "expected the path of a Unix socket"),
            ("control=-", "expected the path of a Unix socket"),
            (
                "control=tcp:lab:80",
                "expected tcp: and an address with a port",
            ),
            (
                "control=tcp:0.0.0.0:80",
                "expected a loopback address, or --control-insecure beside it",
            ),
            ("control=tcp:10.0.0.5:80", "--control-insecure"),
            (
                "control=tcp:[::]:80 control-insecure=off",
                "--control-insecure",
            ),
            ("control=tcp:[::ffff:10.0.0.5]:80", "--control-insecure"),
            (
                "control=tcp:127.0.0.1:80 control-insecure=on",
                "an address that is not loopback",
            ),
            (
                "control=lab.sock control-insecure=on",
                "expected --control tcp:ADDRESS:PORT beside it",
            ),
            (
                "control-insecure=on",
                "expected --control tcp:ADDRESS:PORT beside it",
            ),
            (
                "control=lab.sock control-token-file=t",
                "expected --control tcp:ADDRESS:PORT beside it",
            ),
            (
                "control=tcp:127.0.0.1:0 control-token-file=",
                "expected the name of a file",
            ),
            ("metrics=9100", "expected an address with a port"),
            ("metrics=lab:9100", "expected an address with a port"),
            (
                "metrics=tcp:127.0.0.1:9100",
                "expected an address with a port",
            ),
            (&many, "expected up to 8 addresses"),
        ] {
            let found = listen(&settings(words)).unwrap_err().to_string();
            assert!(found.contains(error), "{words}: {found}");
        }
    }
}
