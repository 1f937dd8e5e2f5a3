//! Why a plan could not be brought to life.

use crate::system::SystemError;

/// Why a run could not be made, or its lab not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The system refused an operation.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The plan does not fit the tool.
    #[error("{0}")]
    Plan(String),
}
