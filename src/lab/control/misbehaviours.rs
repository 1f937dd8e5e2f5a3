//! Misbehaviours that clients begin and end.

use super::present::Present;
use crate::control::{ApiError, List, MisbehaveDocument, Page};
use crate::fabric::Fabric;
use crate::hypervisor::{Command, PlannedMisbehaviour};
use crate::lab::{Driver, LabError};
use crate::report::MisbehaviourSummary;
use crate::system::SystemError;
use crate::vm::VmId;

impl<F, D> Present<'_, '_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// The misbehaviours of the run so far, and behind them those of the present phase that are still to come.
    pub(super) fn list_misbehaviours(&mut self, page: Page) -> List<MisbehaviourSummary> {
        let start = self.lab.start;
        let to_come: Vec<_> = self.lab.hypervisor.misbehaviours_to_come().collect();
        let records = self.lab.hypervisor.fabric().misbehaviours();
        List::of(page, records.len() + to_come.len(), |index| {
            Some(match records.get(index) {
                Some(record) => MisbehaviourSummary::of(record, start),
                None => MisbehaviourSummary::planned(*to_come.get(index - records.len())?, start),
            })
        })
    }

    /// Makes VMs misbehave from now on. Of several VMs of which one can't, those before it do.
    pub(super) fn begin_misbehaviours(
        &mut self,
        wish: &MisbehaveDocument,
        page: Page,
    ) -> Result<List<MisbehaviourSummary>, ApiError> {
        let planned = self.lab.plan.misbehaviours_of(&wish.misbehave);
        let mut begun: Option<(VmId, VmId)> = None;
        for planned in planned.map_err(LabError::from)? {
            let PlannedMisbehaviour {
                vm,
                misbehaviour,
                lasts,
                ..
            } = planned;
            let command = Command::Misbehave {
                vm,
                misbehaviour,
                lasts,
            };
            self.carry_out(command).map_err(|mut refused| {
                if let Some((first, last)) = begun {
                    let who = match first == last {
                        true => format!("{first} misbehaves"),
                        false => format!("{first} to {last} misbehave"),
                    };
                    refused.error.push_str(&format!("; {who} already"));
                }
                refused
            })?;
            begun = Some((begun.map_or(vm, |(first, _)| first), vm));
        }
        Ok(self.list_misbehaviours(page))
    }
}
