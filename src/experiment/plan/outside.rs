//! What leads out of the lab: an interface that exists (`--uplink`), or a VXLAN (`--underlay`).

use super::MTU;
use crate::experiment::settings::{SettingError, Settings};
use crate::system::{
    DEFAULT_MTU, ExistingLink, LabConfig, Outside, SystemError, Underlay, validate_interface_name,
};

/// What leads out of a lab.
pub(super) struct Found {
    pub(super) outside: Outside,
    /// The largest datagram that goes there, where that is known.
    mtu: Option<u32>,
}

/// Reads `uplink` and `underlay`.
pub(super) fn outside(
    settings: &Settings,
    underlay_mtu: impl Fn(&Underlay) -> Result<u32, SystemError>,
) -> Result<Option<Found>, SettingError> {
    let (uplink, underlay) = (settings.get("uplink"), settings.get("underlay"));
    let Some(setting) = uplink.or(underlay) else {
        return Ok(None);
    };
    if settings.switch("attach")? {
        let why = "cannot be used with --attach, which leaves the bridge as it is";
        return Err(setting.error(why));
    }
    if let (Some(_), Some(underlay)) = (uplink, underlay) {
        let why = "cannot be used with --uplink: both may lead to one network, in which frames would go round";
        return Err(underlay.error(why));
    }
    if uplink.is_some() {
        let name = &setting.text;
        validate_interface_name(name).map_err(|why| setting.error(why))?;
        let outside = Outside::Uplink(name.clone());
        return Ok(Some(Found { outside, mtu: None }));
    }
    let underlay = Underlay::find(&setting.text).map_err(|why| setting.error(why))?;
    let mtu = underlay_mtu(&underlay).map_err(|error| setting.error(error))?;
    let outside = Outside::Underlay(underlay);
    Ok(Some(Found {
        outside,
        mtu: Some(mtu),
    }))
}

/// The MTU of the VMs: by default what goes out in one piece.
pub(super) fn mtu(settings: &Settings, outside: Option<&Found>) -> Result<u16, SettingError> {
    let most = outside.and_then(|found| found.mtu);
    let Some(setting) = settings.get("mtu") else {
        let most = most.and_then(|most| u16::try_from(most).ok());
        let most = most.unwrap_or(*MTU.end()).max(*MTU.start());
        return Ok(most.min(DEFAULT_MTU));
    };
    let mtu = setting.number_in(MTU)?;
    match most {
        Some(most) if u32::from(mtu) > most => Err(setting.error(format_args!(
            "the network below the VXLAN carries {most} bytes of it in one piece; expected {most} or less"
        ))),
        _ => Ok(mtu),
    }
}

/// Checks that a port of the lab's bridge can stand on the interface.
pub(super) fn check(
    settings: &Settings,
    lab: &LabConfig,
    find: impl Fn(&str) -> Result<ExistingLink, SystemError>,
) -> Result<(), SettingError> {
    let (Some(Outside::Uplink(name)), Some(setting)) = (&lab.outside, settings.get("uplink"))
    else {
        return Ok(());
    };
    let found = find(name).and_then(|link| link.check(lab));
    found.map_err(|error| SettingError::new(format_args!("{}: {error}", setting.flag())))
}
