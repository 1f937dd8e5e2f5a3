//! Listens at the addresses of a plan.

use std::borrow::Cow;

use crate::control::{Access, ControlAddress, is_loopback};
use crate::experiment::Experiment;
use crate::system::{Listener, SystemError, read_token};

/// The sockets of a lab, each with what its clients may do.
pub(in crate::lab) type Listeners = Vec<(Listener, Access)>;

/// Listens at the addresses of `plan`, before anything else is touched and where the user is: a socket stays in the network
/// namespace that it was made in. Ports that were chosen are in the plan afterwards.
///
/// # Errors
/// If there is no token for clients over TCP, or the system refuses an address.
pub(in crate::lab) fn listen(plan: &mut Cow<'_, Experiment>) -> Result<Listeners, SystemError> {
    let mut listen = plan.listen.clone();
    let mut listeners = Vec::new();
    let token = match listen.takes_token() {
        true => read_token(listen.token_file.as_deref())?,
        false => None,
    };
    let token = || token.clone().ok_or_else(no_token);
    if listen.takes_token() {
        token()?;
    }
    for address in &mut listen.metrics {
        let listener = Listener::bind(&ControlAddress::Tcp(*address))?;
        *address = listener.tcp_address().unwrap_or(*address);
        listeners.push((listener, Access::Metrics(*address)));
    }
    for address in &mut listen.control {
        let listener = Listener::bind(address)?;
        let access = match listener.tcp_address() {
            None => Access::User,
            Some(bound) => {
                *address = ControlAddress::Tcp(bound);
                Access::Bearer(token()?, bound)
            }
        };
        listeners.push((listener, access));
    }
    if listen != plan.listen {
        plan.to_mut().listen = listen;
    }
    Ok(listeners)
}

fn no_token() -> SystemError {
    SystemError::refused("control the lab over TCP", "there is no token").advise(
        "expected --control-token-file FILE, or a token in the environment variable TAP_REACTOR_TOKEN",
    )
}

/// Where the lab listens over TCP, for its user, and what others may read.
pub(in crate::lab) fn told(listeners: &Listeners) -> (Vec<String>, Vec<String>) {
    let (mut places, mut warnings) = (Vec::new(), Vec::new());
    for (_, access) in listeners {
        match access {
            Access::User => {}
            Access::Metrics(address) => places.push(format!("metrics: http://{address}/metrics")),
            Access::Bearer(_, address) => {
                places.push(format!("control: http://{address}/, with the token"));
                if !is_loopback(address.ip()) {
                    warnings.push(format!(
                        "control at {address}: the token, all requests and all responses travel in the clear; who reads \
                         them on their way controls the lab"
                    ));
                }
            }
        }
    }
    (places, warnings)
}
