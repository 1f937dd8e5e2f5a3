//! Moves that clients make, see and end.

use super::present::Present;
use crate::control::{ApiError, List, MoveDocument, MoveVm, MovedVm, Page, status};
use crate::fabric::Fabric;
use crate::hypervisor::{Command, Moved, Outcome};
use crate::lab::Driver;
use crate::system::SystemError;
use crate::vm::VmId;

impl<F, D> Present<'_, '_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// Makes a move, or begins to: returns the VM then.
    pub(super) fn make_move(&mut self, wish: &MoveVm) -> Result<Result<MovedVm, VmId>, ApiError> {
        self.check_changeable()?;
        let (vm, relocation) = self.lab.move_of(&wish.order, wish.repeat)?;
        let outcome = self.carry_out(Command::Move(vm, Box::new(relocation)))?;
        Ok(match outcome {
            Outcome::Moved(moved) => Ok(self.moved_document(vm, &moved)),
            _ => Err(vm),
        })
    }

    /// What came of the move of `vm`, which was begun.
    pub(super) fn outcome_of_move(&self, vm: VmId) -> Result<Option<MovedVm>, ApiError> {
        match self.lab.hypervisor.moved(vm) {
            None => Ok(None),
            Some(Ok(moved)) => Ok(Some(self.moved_document(vm, moved))),
            Some(Err(why)) => Err(ApiError::new(
                status::INTERNAL_ERROR,
                why.clone(),
                "a system that does not refuse it",
            )),
        }
    }

    fn moved_document(&self, vm: VmId, moved: &Moved) -> MovedVm {
        MovedVm {
            vm: vm.to_string(),
            from: moved.from.to_string(),
            to: moved.to.to_string(),
            time_ns: moved.began.nanos_since(self.lab.started),
            netlink_ns: moved.ready.nanos_since(moved.began),
        }
    }

    /// The moves that were made, and those of the present phase that are to come.
    pub(super) fn list_moves(&mut self, page: Page) -> List<MoveDocument> {
        let started = self.lab.started;
        let hypervisor = &mut self.lab.hypervisor;
        let to_come = hypervisor.moves_to_come();
        let to_come = to_come.map(|(at, vm, relocation)| MoveDocument {
            vm: vm.to_string(),
            from: None,
            to: relocation.to.to_string(),
            time_ns: at.nanos_since(started),
            netlink_ns: None,
            to_come: relocation.repeat,
        });
        let to_come: Vec<_> = to_come.collect();
        let moves = hypervisor.recorder().moves();
        let made = moves.map_or(&[][..], |moves| moves.all());
        List::of(page, made.len() + to_come.len(), |index| {
            let Some(made) = made.get(index) else {
                return to_come.get(index - made.len()).cloned();
            };
            Some(MoveDocument {
                vm: made.vm.to_string(),
                from: Some(made.from.clone()),
                to: made.to.clone(),
                time_ns: made.began.nanos_since(started),
                netlink_ns: made.ready.map(|ready| ready.nanos_since(made.began)),
                to_come: 0,
            })
        })
    }
}
