//! Cards that only their maker's tool or driver can write.

use crate::cli;
use crate::commands::SharedOutput;
use crate::decide::Wish;
use crate::store::Store;
use crate::target::Target;

/// What a tool cannot do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not yet.
    #[error("{0} is not supported by this build")]
    Unsupported(&'static str),
}

pub(crate) fn probe(
    _output: &SharedOutput,
    _target: &Target,
) -> Result<u8, crate::commands::Error> {
    Err(Error::Unsupported("probe").into())
}

pub(crate) fn write(
    _output: &SharedOutput,
    _target: &Target,
    _wish: &Wish<'_>,
    _store: &Store,
    _arguments: &cli::Write,
) -> Result<u8, crate::commands::Error> {
    Err(Error::Unsupported("write").into())
}
