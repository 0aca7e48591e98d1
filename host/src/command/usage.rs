//! Mistakes of who gave the command, not of the machine: an argument that won't do, or that names
//! something which does not exist. They end with an exit code of their own.

use super::pipeline::Problems;

/// The exit code of wrong usage and wrong pipeline files; clap uses it as well.
pub const CODE: u8 = 2;

/// An error that is a matter of usage.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Usage(anyhow::Error);

/// Makes the error of a result one of usage.
///
/// # Errors
/// That of the result, in a [`Usage`].
pub fn checked<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| Usage(error).into())
}

/// An error of usage with this text.
pub fn wrong(message: String) -> anyhow::Error {
    Usage(anyhow::Error::msg(message)).into()
}

/// Whether an error is a matter of usage or of a pipeline file.
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<Usage>() || error.is::<Problems>()
}
