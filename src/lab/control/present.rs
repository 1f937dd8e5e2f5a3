//! A lab as the routes of its control socket see it.

use std::ops::Range;
use std::path::Path;

use super::Control;
use crate::control::{
    AddFlows, AddVms, ApiError, CaptureDocument, CaptureSoFar, Capturing, Controlled, Done,
    FlowDocument, ImpairDocument, ImpairmentsDocument, LabDocument, LabState, List, LoadDocument,
    MarkDocument, MarkSoFar, MisbehaveDocument, MoveDocument, MoveVm, MovedVm, PHASES_TOLD, Page,
    PhaseDocument, RecentDocument, SetMark, VmDocument, status,
};
use crate::experiment::{Experiment, IpVersion};
use crate::fabric::{Fabric, InstrumentConfig, InstrumentKind};
use crate::hypervisor::{Command, FlowConfig, Outcome};
use crate::lab::build::plan_report;
use crate::lab::names::{Leased, flow_name};
use crate::lab::{Driver, LabError, LabOn};
use crate::load::{FlowId, Pace, Pacing};
use crate::record::{Metric, NoMarkName, Phase};
use crate::report::{
    Builder, Destination, Exposition, FlowReport, ImpairedFrames, LabGauges, MisbehaviourSummary,
    Report, prometheus,
};
use crate::system::{SystemError, memory_use};
use crate::time::Instant;
use crate::vm::VmId;

/// The most impairments that clients may add up: each further one is read with all before it.
const MOST_RULES: usize = 256;

/// The most captures into files at a time, those that clients begin among them: each has a descriptor and a buffer.
pub(in crate::lab) const MOST_CAPTURES: usize = 64;

/// A lab while it answers a request.
pub(super) struct Present<'l, 'a, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    pub(super) lab: &'l mut LabOn<'a, F, D>,
    pub(super) control: &'l mut Control,
}

impl From<LabError> for ApiError {
    fn from(error: LabError) -> ApiError {
        match error {
            LabError::Plan(words) | LabError::Ranks(words) => {
                ApiError::in_words(status::BAD_REQUEST, &words)
            }
            LabError::System(error) => ApiError::new(
                status::INTERNAL_ERROR,
                error.to_string(),
                "a system that does not refuse it",
            ),
        }
    }
}

impl<F, D> Present<'_, '_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    fn time(&self) -> u64 {
        self.lab.driver.now().nanos_since(self.lab.started)
    }

    fn state(&self) -> LabState {
        let hypervisor = &self.lab.hypervisor;
        match self.control.end {
            Some(end) => end,
            None if hypervisor.is_waiting() => LabState::Waiting,
            None if hypervisor.is_idle() => LabState::Serving,
            None => LabState::Running,
        }
    }

    /// Counts the VMs that are there.
    fn vms_up(&self) -> usize {
        let hypervisor = &self.lab.hypervisor;
        let vms = (0..hypervisor.vm_count() as u32).map(VmId);
        vms.filter(|vm| hypervisor.vm(*vm).is_some()).count()
    }

    /// Makes sure that the lab can be changed still.
    pub(super) fn check_changeable(&self) -> Result<(), ApiError> {
        match self.control.end {
            None => Ok(()),
            Some(end) => {
                let why = match end {
                    LabState::Stopping => "the lab was told to stop",
                    _ => "the run is over",
                };
                Err(ApiError::new(
                    status::CONFLICT,
                    why,
                    "a request while it runs",
                ))
            }
        }
    }

    pub(super) fn carry_out(&mut self, command: Command) -> Result<Outcome, ApiError> {
        self.check_changeable()?;
        Ok(self.lab.carry_out(command)?)
    }

    fn vm_document(&self, index: usize) -> Option<VmDocument> {
        let LabOn {
            plan, hypervisor, ..
        } = &*self.lab;
        let id = VmId(index as u32);
        let planned = plan.vms.get(index)?;
        let vm = hypervisor.vm(id);
        let address = match plan.vm_defaults.leases(IpVersion::V4) {
            true => vm
                .and_then(|vm| vm.address())
                .map(|address| address.to_string()),
            false => Some(planned.address.to_string()),
        };
        let address6 = plan
            .ipv6_address(id)
            .map(|planned| match planned.is_unspecified() {
                true => vm.and_then(|vm| vm.leased_address(planned.into())),
                false => Some(planned.into()),
            });
        Some(VmDocument {
            name: id.to_string(),
            mac: planned.mac.to_string(),
            address,
            address6: address6.flatten().map(|address| address.to_string()),
            is_up: vm.is_some(),
            is_configuring: vm.is_some_and(|vm| vm.is_configuring()),
        })
    }

    /// Returns the rules that frames are impaired by, in the words of the plan and of clients.
    fn rules(&mut self) -> Vec<ImpairDocument> {
        let rules = self.lab.hypervisor.fabric().rules().iter();
        let words = rules.map(|rule| rule.words.clone());
        words.map(|impair| ImpairDocument { impair }).collect()
    }

    /// The captures into files that have not been ended.
    fn captures_so_far(&mut self) -> Vec<CaptureSoFar> {
        let recordings = self.lab.hypervisor.fabric().recordings().into_iter();
        recordings
            .filter(|(_, recording)| recording.kind.name == "capture")
            .map(|(id, recording)| CaptureSoFar { id, recording })
            .collect()
    }
}

fn words(addresses: &[impl ToString]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The instrument of that name.
fn kind(name: &str) -> Result<&'static InstrumentKind, ApiError> {
    let kind = InstrumentKind::named(name);
    kind.ok_or_else(|| not_found(name, "an instrument".to_owned()))
}

/// Returns the pacing that the one of these stands for which is given; `None` if none is.
fn pacing(
    rate: Option<f64>,
    interval: Option<&str>,
    window: Option<u32>,
) -> Result<Option<Pacing>, ApiError> {
    let given = [
        ("rate", rate.map(|rate| rate.to_string())),
        ("interval", interval.map(str::to_owned)),
        ("window", window.map(|window| window.to_string())),
    ];
    let mut given = given
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)));
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some((name, text)), None) => {
            let pacing = Experiment::pacing_of(name, &text);
            Ok(Some(pacing.map_err(LabError::from)?))
        }
        _ => Err(not_one_pacing()),
    }
}

fn not_one_pacing() -> ApiError {
    let error = "the load is not one of rate, interval and window";
    ApiError::new(status::BAD_REQUEST, error, "one of them")
}

/// Returns the pace that flows are to have of their own.
fn pace(wish: &AddFlows) -> Result<Option<Pace>, ApiError> {
    let pacing = pacing(wish.rate, wish.interval.as_deref(), wish.window)?;
    match (pacing, wish.count) {
        (_, Some(0)) => Err(ApiError::new(
            status::BAD_REQUEST,
            "count=0 can't be",
            "1 or more",
        )),
        (None, Some(_)) => {
            let error = "count without a pace of these flows";
            let expected = "one of rate, interval and window with it";
            Err(ApiError::new(status::BAD_REQUEST, error, expected))
        }
        (pacing, count) => Ok(pacing.map(|pacing| Pace { pacing, count })),
    }
}

/// The last phases of a run that is divided.
fn phases(phases: &[Phase]) -> Vec<PhaseDocument> {
    let is_divided = phases.iter().any(|phase| !phase.name().is_empty());
    let told = phases.iter().skip(phases.len().saturating_sub(PHASES_TOLD));
    told.filter(|_| is_divided)
        .map(|phase| PhaseDocument {
            name: phase.name().to_owned(),
            counted: phase.counted(),
            elapsed_ns: phase.elapsed(),
            totals: *phase.totals(),
        })
        .collect()
}

/// Returns true if what is written to `one` and to `other` would be one file, under whatever names.
fn are_one_file(one: &str, other: &str) -> bool {
    let place = |path: &str| Destination::new(Path::new(path)).ok();
    let places = place(one).zip(place(other));
    places.is_some_and(|(one, other)| one.is_same(&other))
}

fn not_found(what: &str, expected: String) -> ApiError {
    ApiError::new(status::NOT_FOUND, format!("there is no {what}"), expected)
}

impl<F, D> Controlled for Present<'_, '_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    fn lab(&mut self) -> LabDocument {
        let (state, time_ns, vms) = (self.state(), self.time(), self.vms_up());
        let plan = plan_report(&self.lab.plan);
        let impairments = self.rules();
        let now = self.lab.driver.now();
        let hypervisor = &mut self.lab.hypervisor;
        let recorder = hypervisor.recorder();
        let phase = recorder.current_phase().name();
        LabDocument {
            tool: concat!("tap-reactor ", env!("CARGO_PKG_VERSION")).to_owned(),
            run: self.control.command.clone(),
            state,
            time_ns,
            phase: (!phase.is_empty()).then(|| phase.to_owned()),
            vms,
            flows: recorder.flows().len(),
            totals: recorder.totals(),
            control: words(&self.lab.plan.listen.control),
            metrics: words(&self.lab.plan.listen.metrics),
            rtt_ns: recorder.latency(Metric::Rtt).summary(),
            response_ns: recorder.latency(Metric::Response).summary(),
            recent: recorder.recent(now).map(RecentDocument::from),
            phases: phases(recorder.phases()),
            drops: *recorder.drops(),
            errors: recorder.errors().clone(),
            mark: recorder
                .marks()
                .and_then(|marks| Some(MarkSoFar::of(marks.all().last()?, now))),
            impairments,
            plan,
        }
    }

    fn vms(&mut self, page: Page) -> List<VmDocument> {
        List::of(page, self.lab.plan.vms.len(), |index| {
            self.vm_document(index)
        })
    }

    fn vm(&mut self, name: &str) -> Result<VmDocument, ApiError> {
        let vm = name.parse::<VmId>().ok();
        let found = vm.and_then(|vm| self.vm_document(vm.index()));
        let vms = self.lab.plan.vms.len();
        found.ok_or_else(|| {
            not_found(
                &format!("VM {name:?}"),
                format!("vm0 to vm{}", vms.saturating_sub(1)),
            )
        })
    }

    fn plan_vms(&mut self, wish: AddVms) -> Result<Range<u32>, ApiError> {
        self.check_changeable()?;
        let flooded = self.lab.hypervisor.check_flooded(wish.vms as usize);
        flooded.map_err(|why| ApiError::in_words(status::CONFLICT, &why))?;
        Ok(self.lab.plan_vms(wish.vms)?)
    }

    fn start_vms(&mut self, vms: Range<u32>) -> Result<(), ApiError> {
        self.check_changeable()?;
        vms.clone()
            .for_each(|index| self.lab.announce_vm(index as usize));
        self.carry_out(Command::StartVms(vms.map(VmId).collect()))?;
        Ok(())
    }

    fn vms_named(&mut self, who: &str) -> Result<Vec<VmId>, ApiError> {
        self.check_changeable()?;
        self.lab.vms_named(who).map_err(|error| ApiError {
            status: status::NOT_FOUND,
            ..error.into()
        })
    }

    fn stop_vms(&mut self, vms: Vec<VmId>) -> Result<(), ApiError> {
        let hypervisor = &self.lab.hypervisor;
        let flows = vms.iter().flat_map(|vm| hypervisor.flows_to(*vm));
        let flows: Vec<FlowId> = flows.collect();
        self.carry_out(Command::StopFlows(flows))?;
        self.carry_out(Command::StopVms(vms)).map(drop)
    }

    fn worst_flows(&mut self, page: Page) -> Vec<FlowId> {
        let places = page.offset..page.offset.saturating_add(page.limit);
        self.lab.hypervisor.recorder().worst_flows(places)
    }

    fn flows(&mut self, page: Page, ranked: Option<&[FlowId]>) -> List<FlowDocument> {
        let LabOn {
            plan, hypervisor, ..
        } = &mut *self.lab;
        let leased = Leased::of(plan, hypervisor);
        let recorder = hypervisor.recorder();
        let flows = recorder.flows().len();
        List::of(page, flows, |index| {
            let index = match ranked {
                None => index,
                Some(ranked) => ranked.get(index - page.offset)?.index(),
            };
            let name = flow_name(plan, &leased, index);
            let report = FlowReport::of(recorder, index, name)?;
            Some(FlowDocument {
                id: index as u32,
                report,
            })
        })
    }

    fn plan_flows(&mut self, wish: &AddFlows) -> Result<(Vec<FlowConfig>, Option<Pace>), ApiError> {
        self.check_changeable()?;
        let size = wish.size.map(|size| size.to_string());
        let pace = pace(wish)?;
        let flows = self.lab.flows_of(&wish.ping, size.as_deref())?;
        let checked = self.lab.hypervisor.check_sources(&flows);
        checked.map_err(LabError::Plan)?;
        Ok((flows, pace))
    }

    fn start_flows(
        &mut self,
        flows: Vec<FlowConfig>,
        pace: Option<Pace>,
    ) -> Result<Range<u32>, ApiError> {
        match self.carry_out(Command::StartFlows(flows, pace))? {
            Outcome::Flows(ids) => Ok(ids),
            _ => Ok(0..0),
        }
    }

    fn remove_flow(&mut self, id: u32) -> Result<Done, ApiError> {
        let flows = self.lab.hypervisor.recorder().flows().len();
        if id as usize >= flows {
            let expected = match flows.checked_sub(1) {
                Some(last) => format!("0 to {last}"),
                None => "the number of a flow, of which there is none yet".to_owned(),
            };
            return Err(not_found(&format!("flow {id}"), expected));
        }
        self.carry_out(Command::StopFlows(vec![FlowId(id)]))?;
        Ok(Done {})
    }

    fn set_load(&mut self, load: LoadDocument) -> Result<LoadDocument, ApiError> {
        self.check_changeable()?;
        let LoadDocument {
            rate,
            interval,
            window,
        } = &load;
        let pacing = pacing(*rate, interval.as_deref(), *window)?;
        let pacing = pacing.ok_or_else(not_one_pacing)?;
        self.carry_out(Command::SetPacing(pacing))?;
        Ok(load)
    }

    fn impairments(&mut self) -> ImpairmentsDocument {
        let frames = self.lab.hypervisor.fabric().impairments();
        ImpairmentsDocument {
            rules: self.rules(),
            frames: frames.iter().map(ImpairedFrames::from).collect(),
        }
    }

    fn impair(&mut self, wish: ImpairDocument) -> Result<ImpairmentsDocument, ApiError> {
        let further = self.lab.rules_of(&[&wish.impair])?;
        let mut rules = self.lab.hypervisor.fabric().rules().to_vec();
        rules.extend(further);
        if rules.len() > MOST_RULES {
            let error = format!("there are {MOST_RULES} impairments");
            return Err(ApiError::new(
                status::CONFLICT,
                error,
                "no further one before DELETE /impairments",
            ));
        }
        self.carry_out(Command::Impair(rules))?;
        Ok(self.impairments())
    }

    fn end_impairments(&mut self) -> Result<ImpairmentsDocument, ApiError> {
        self.carry_out(Command::Impair(Vec::new()))?;
        Ok(self.impairments())
    }

    fn misbehaviours(&mut self, page: Page) -> List<MisbehaviourSummary> {
        self.list_misbehaviours(page)
    }

    fn misbehave(
        &mut self,
        wish: MisbehaveDocument,
        page: Page,
    ) -> Result<List<MisbehaviourSummary>, ApiError> {
        self.begin_misbehaviours(&wish, page)
    }

    fn behave(&mut self, who: &str, page: Page) -> Result<List<MisbehaviourSummary>, ApiError> {
        let vms = self.vms_named(who)?;
        self.carry_out(Command::Behave(vms))?;
        Ok(self.list_misbehaviours(page))
    }

    fn captures(&mut self, page: Page) -> List<CaptureSoFar> {
        let captures = self.captures_so_far();
        List::of(page, captures.len(), |index| captures.get(index).cloned())
    }

    fn end_capture(&mut self, number: u32) -> Result<CaptureSoFar, ApiError> {
        let captures = self.captures_so_far();
        if !captures.iter().any(|capture| capture.id == number) {
            let numbers = captures.iter().map(|capture| capture.id.to_string());
            let numbers: Vec<_> = numbers.collect();
            let expected = match numbers.is_empty() {
                true => "the number of a capture, of which there is none".to_owned(),
                false => numbers.join(", "),
            };
            return Err(not_found(&format!("capture {number}"), expected));
        }
        match self.carry_out(Command::EndInstrument(number))? {
            Outcome::Recording(recording) => Ok(CaptureSoFar {
                id: number,
                recording,
            }),
            _ => Err(not_found(&format!("capture {number}"), String::new())),
        }
    }

    fn capture(&mut self, wish: CaptureDocument) -> Result<Capturing, ApiError> {
        self.check_changeable()?;
        let CaptureDocument {
            capture: file,
            vms,
            snap,
            on_loss,
        } = wish;
        let options = [
            ("capture", file.clone()),
            ("capture-vms", vms),
            ("capture-snap", snap.map(|bytes| bytes.to_string())),
            ("capture-on-loss", on_loss.map(|frames| frames.to_string())),
        ];
        let options = options
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let options: Vec<_> = options.collect();
        let plan = &self.lab.plan;
        let config = plan.instrument_of(kind("capture")?, &options);
        let config = config.map_err(LabError::from)?;
        let Some(file) = file else {
            return Ok(Capturing::ForClient(config));
        };
        let written = self.lab.hypervisor.fabric().recordings();
        if written
            .iter()
            .any(|(_, taken)| are_one_file(&taken.file, &file))
        {
            let error = format!("{file} is written by this lab already");
            return Err(ApiError::new(status::CONFLICT, error, "another file"));
        }
        if self.captures_so_far().len() >= MOST_CAPTURES {
            let error = format!("there are {MOST_CAPTURES} captures");
            let expected = "no further one before DELETE /captures/{capture}";
            return Err(ApiError::new(status::CONFLICT, error, expected));
        }
        let command = &self.control.command;
        let capture = self.lab.make_instrument(command, &config)?;
        let outcome = self.carry_out(Command::Observe(capture))?;
        let begun = self.captures_so_far().into_iter();
        begun
            .rev()
            .find(|capture| outcome == Outcome::Instrument(capture.id))
            .map(Capturing::IntoFile)
            .ok_or_else(|| {
                let error = format!("{file} could not be written");
                ApiError::new(status::INTERNAL_ERROR, error, "a file that can be")
            })
    }

    fn events(&mut self) -> Result<InstrumentConfig, ApiError> {
        let config = self.lab.plan.instrument_of(kind("trace")?, &[]);
        Ok(config.map_err(LabError::from)?)
    }

    fn mark(&mut self, wish: SetMark) -> Result<MarkDocument, ApiError> {
        self.check_changeable()?;
        let name = wish.name.parse();
        let name = name.map_err(|error: NoMarkName| {
            ApiError::in_words(status::BAD_REQUEST, &error.to_string())
        })?;
        let detail = String::new();
        let outcome = self.carry_out(Command::Mark { name, detail })?;
        let since_start = |at: Instant| at.nanos_since(self.lab.started);
        Ok(MarkDocument {
            name: wish.name,
            time_ns: match outcome {
                Outcome::Marked(at) => since_start(at),
                _ => self.time(),
            },
        })
    }

    fn move_vm(&mut self, wish: MoveVm) -> Result<Result<MovedVm, VmId>, ApiError> {
        self.make_move(&wish)
    }

    fn moved(&mut self, vm: VmId) -> Result<Option<MovedVm>, ApiError> {
        self.outcome_of_move(vm)
    }

    fn moves(&mut self, page: Page) -> List<MoveDocument> {
        self.list_moves(page)
    }

    fn end_moves(&mut self, who: &str, page: Page) -> Result<List<MoveDocument>, ApiError> {
        let vms = self.vms_named(who)?;
        self.carry_out(Command::EndMoves(vms))?;
        Ok(self.list_moves(page))
    }

    fn report(&mut self, builder: &mut Builder) -> Option<Report> {
        self.lab.report_slice(builder, &self.control.command)
    }

    fn metrics(&mut self, format: Exposition) -> String {
        let lab = LabGauges {
            vms: self.vms_up(),
            rss_bytes: memory_use().map(|memory| memory.present),
            misbehaviours: self.lab.hypervisor.fabric().misbehaviours(),
            floods: self.lab.hypervisor.fabric().floods(),
        };
        prometheus(self.lab.hypervisor.recorder(), &lab, format)
    }

    fn stop(&mut self) -> Result<Done, ApiError> {
        if self.control.end.is_none() {
            self.carry_out(Command::Stop)?;
        }
        self.control.end = Some(LabState::Stopping);
        Ok(Done {})
    }
}
