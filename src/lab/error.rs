//! Errors of building and closing a lab.

use crate::experiment::SettingError;
use crate::fabric::OptionError;
use crate::hypervisor::CommandError;
use crate::system::SystemError;

/// An error of building, driving or closing a lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The system refused an operation.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The plan does not fit the tool.
    #[error("{0}")]
    Plan(String),
    /// The ranks that were to run the plan together did not meet, or one was gone before the run.
    #[error("{0}")]
    Ranks(String),
}

impl LabError {
    /// The error that a command is.
    pub(super) fn of_command<E>(error: CommandError<E>) -> LabError
    where
        SystemError: From<E>,
    {
        match error {
            CommandError::Fabric(error) => LabError::System(error.into()),
            CommandError::Refused(why) => LabError::Plan(why),
        }
    }
}

impl From<OptionError> for LabError {
    fn from(error: OptionError) -> LabError {
        LabError::Plan(error.to_string())
    }
}

impl From<SettingError> for LabError {
    fn from(error: SettingError) -> LabError {
        LabError::Plan(error.to_string())
    }
}
