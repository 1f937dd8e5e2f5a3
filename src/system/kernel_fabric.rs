//! What a lab in real time asks of its fabric beside carrying frames.

use nix::sys::signal::Signal;

use super::error::SystemError;
use super::lab_config::LabConfig;
use super::poll_handle::FabricHandles;
use super::signals::StopSignals;
use super::tap_fabric::TapFabric;
use crate::fabric::Fabric;

/// A fabric whose frames the kernel carries.
pub trait KernelFabric: Fabric<Error = SystemError> + Sized {
    /// File descriptors that the port of a VM takes.
    const DESCRIPTORS_OF_A_VM: u64;

    /// Makes the fabric of `lab`, still without VMs. What is to be watched is registered with the handles of `polled`.
    ///
    /// # Errors
    /// If the lab can't exist, or the system refuses; what had been made is removed again.
    fn create(polled: FabricHandles, lab: LabConfig) -> Result<Self, SystemError>;

    /// Waits until every port carries frames, or a signal comes, which is returned.
    ///
    /// # Errors
    /// If one of them does not in time.
    fn wait_until_forwarding(
        &mut self,
        signals: &StopSignals,
    ) -> Result<Option<Signal>, SystemError>;
}

impl KernelFabric for TapFabric {
    const DESCRIPTORS_OF_A_VM: u64 = 1;

    fn create(polled: FabricHandles, lab: LabConfig) -> Result<TapFabric, SystemError> {
        TapFabric::new(polled, lab)
    }

    fn wait_until_forwarding(
        &mut self,
        signals: &StopSignals,
    ) -> Result<Option<Signal>, SystemError> {
        TapFabric::wait_until_forwarding(self, signals)
    }
}
