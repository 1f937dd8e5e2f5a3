//! Moves that clients make, see and end.

use super::present::Present;
use crate::control::{ApiError, List, MoveDocument, MoveVm, MovedVm, Page, status};
use crate::fabric::Fabric;
use crate::hypervisor::{Command, Outcome};
use crate::lab::Driver;
use crate::system::SystemError;

impl<F, D> Present<'_, '_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// Makes a move.
    pub(super) fn make_move(&mut self, wish: &MoveVm) -> Result<MovedVm, ApiError> {
        self.check_changeable()?;
        let (vm, relocation) = self.lab.move_of(&wish.order, wish.repeat)?;
        let started = self.lab.started;
        match self.carry_out(Command::Move(vm, Box::new(relocation)))? {
            Outcome::Moved(moved) => Ok(MovedVm {
                vm: vm.to_string(),
                from: moved.from.to_string(),
                to: moved.to.to_string(),
                time_ns: moved.began.nanos_since(started),
                netlink_ns: moved.ready.nanos_since(moved.began),
            }),
            _ => {
                let error = format!("{vm} was not moved");
                Err(ApiError::new(status::INTERNAL_ERROR, error, "a move"))
            }
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
                netlink_ns: Some(made.ready.nanos_since(made.began)),
                to_come: 0,
            })
        })
    }
}
