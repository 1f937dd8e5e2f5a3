//! The lab, as the routes see it.

use std::ops::Range;

use super::ApiError;
use super::misbehaviours::MisbehaveDocument;
use super::moves::{MoveDocument, MoveVm, MovedVm};
use super::resources::{
    AddFlows, AddVms, CaptureDocument, CaptureSoFar, Done, FlowDocument, ImpairDocument,
    ImpairmentsDocument, LabDocument, List, LoadDocument, MarkDocument, Page, SetMark, VmDocument,
};
use crate::fabric::InstrumentConfig;
use crate::hypervisor::FlowConfig;
use crate::load::{FlowId, Pace};
use crate::report::{Builder, Exposition, MisbehaviourSummary, Report};
use crate::vm::VmId;

/// A lab at an instant, for a request. [`crate::lab`] has it.
pub trait Controlled {
    /// Returns the state of the lab and its plan.
    fn lab(&mut self) -> LabDocument;

    /// Returns some of the VMs, by number. Removed ones have their place.
    fn vms(&mut self, page: Page) -> List<VmDocument>;

    /// Returns the VM named `name`.
    ///
    /// # Errors
    /// If there is none.
    fn vm(&mut self, name: &str) -> Result<VmDocument, ApiError>;

    /// Adds VMs to the plan, and returns their numbers.
    ///
    /// # Errors
    /// If there is no room for so many, or the fabric takes none.
    fn plan_vms(&mut self, wish: AddVms) -> Result<Range<u32>, ApiError>;

    /// Starts VMs that were [planned](Controlled::plan_vms), one a turn.
    ///
    /// # Errors
    /// If the run is over.
    fn start_vms(&mut self, vms: Range<u32>) -> Result<(), ApiError>;

    /// Returns the VMs that `who` names and that exist or are to start.
    ///
    /// # Errors
    /// If it names none.
    fn vms_named(&mut self, who: &str) -> Result<Vec<VmId>, ApiError>;

    /// Removes VMs, with their flows.
    ///
    /// # Errors
    /// If the run is over, or the system refuses an operation.
    fn stop_vms(&mut self, vms: Vec<VmId>) -> Result<(), ApiError>;

    /// Returns the flows of `page` in the order of badness, the worst one first.
    fn worst_flows(&mut self, page: Page) -> Vec<FlowId>;

    /// Returns some of the flows, by number; or `ranked` ones, which are those of `page`.
    fn flows(&mut self, page: Page, ranked: Option<&[FlowId]>) -> List<FlowDocument>;

    /// Returns the flows that `wish` asks for, and their own pace if they are to have one.
    ///
    /// # Errors
    /// If the pattern or the pace is none, or does not fit the VMs, or one of these would have too many flows.
    fn plan_flows(&mut self, wish: &AddFlows) -> Result<(Vec<FlowConfig>, Option<Pace>), ApiError>;

    /// Adds `flows`, and returns their numbers. They ping in the present phase, or if there is none, from now on; at a pace of
    /// their own if there is one.
    ///
    /// # Errors
    /// If their VMs are gone, or the run is over.
    fn start_flows(
        &mut self,
        flows: Vec<FlowConfig>,
        pace: Option<Pace>,
    ) -> Result<Range<u32>, ApiError>;

    /// Ends the flow with that number: it sends no more.
    ///
    /// # Errors
    /// If there is none.
    fn remove_flow(&mut self, id: u32) -> Result<Done, ApiError>;

    /// Changes how the flows send from now on.
    ///
    /// # Errors
    /// If it is not one of rate, interval and window, or out of range.
    fn set_load(&mut self, load: LoadDocument) -> Result<LoadDocument, ApiError>;

    /// Returns the impairments.
    fn impairments(&mut self) -> ImpairmentsDocument;

    /// Adds impairments.
    ///
    /// # Errors
    /// If they can't be understood, or name no VMs.
    fn impair(&mut self, wish: ImpairDocument) -> Result<ImpairmentsDocument, ApiError>;

    /// Ends all impairments. Frames that are held stay so until they are due.
    ///
    /// # Errors
    /// If the run is over.
    fn end_impairments(&mut self) -> Result<ImpairmentsDocument, ApiError>;

    /// Returns the misbehaviours of the run so far.
    fn misbehaviours(&mut self, page: Page) -> List<MisbehaviourSummary>;

    /// Makes VMs misbehave from now on.
    ///
    /// # Errors
    /// If it can't be understood, names no VMs, or the lab is not the run's alone.
    fn misbehave(
        &mut self,
        wish: MisbehaveDocument,
        page: Page,
    ) -> Result<List<MisbehaviourSummary>, ApiError>;

    /// Ends the misbehaviours of the VMs that `who` names.
    ///
    /// # Errors
    /// If it names none, or the run is over.
    fn behave(&mut self, who: &str, page: Page) -> Result<List<MisbehaviourSummary>, ApiError>;

    /// Returns the captures into files that have not been ended.
    fn captures(&mut self, page: Page) -> List<CaptureSoFar>;

    /// Ends a capture into a file.
    ///
    /// # Errors
    /// If there is none with that number.
    fn end_capture(&mut self, number: u32) -> Result<CaptureSoFar, ApiError>;

    /// Begins a capture: into a file, or if none is named for the client.
    ///
    /// # Errors
    /// If an option can't be, the file can't be created, or it is written already.
    fn capture(&mut self, wish: CaptureDocument) -> Result<Capturing, ApiError>;

    /// Returns the instrument whose records are the events of the run.
    ///
    /// # Errors
    /// If there is none.
    fn events(&mut self) -> Result<InstrumentConfig, ApiError>;

    /// Sets a mark.
    ///
    /// # Errors
    /// If the name is none.
    fn mark(&mut self, wish: SetMark) -> Result<MarkDocument, ApiError>;

    /// Moves a VM, or begins to: returns the VM then.
    ///
    /// # Errors
    /// If the order can't be understood, or this can't be.
    fn move_vm(&mut self, wish: MoveVm) -> Result<Result<MovedVm, VmId>, ApiError>;

    /// Returns what came of the move of `vm`, which was begun; `None` as long as it goes on.
    ///
    /// # Errors
    /// If the system has refused it.
    fn moved(&mut self, vm: VmId) -> Result<Option<MovedVm>, ApiError>;

    /// Returns the moves that were made, and those of the present phase that are to come.
    fn moves(&mut self, page: Page) -> List<MoveDocument>;

    /// Has the moves of the VMs that `who` names not made that are to come.
    ///
    /// # Errors
    /// If it names none, or the run is over.
    fn end_moves(&mut self, who: &str, page: Page) -> Result<List<MoveDocument>, ApiError>;

    /// Makes a slice of the report of what was measured so far. Returns the report once it is complete.
    fn report(&mut self, builder: &mut Builder) -> Option<Report>;

    /// Returns the metrics of the run so far, in `format`.
    fn metrics(&mut self, format: Exposition) -> String;

    /// Ends the run in order, as a signal does. To be told twice changes nothing.
    ///
    /// # Errors
    /// If the system refuses an operation.
    fn stop(&mut self) -> Result<Done, ApiError>;
}

/// What came of a request to capture.
pub enum Capturing {
    /// A capture into a file has begun.
    IntoFile(CaptureSoFar),
    /// The client is to get the records of this instrument.
    ForClient(InstrumentConfig),
}
