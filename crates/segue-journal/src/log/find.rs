//! Finding a stream that is not in memory: in the indexes of sealed segments, newest first, then
//! in the catalogue of the cold store.

use std::sync::Arc;

use super::{
    index::{Entry, IndexError, Sealed},
    table::Version,
};
use crate::{
    cold::{Cold, ColdError, Row},
    stream::StreamKey,
};

/// Why a stream could not be looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// In a segment.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// In the cold store.
    #[error(transparent)]
    Cold(#[from] ColdError),
}

impl FindError {
    /// What is stored is not what was written, as opposed to: it could not be read now.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Index(error) => matches!(error, IndexError::Damaged { .. }),
            Self::Cold(error) => error.is_damage(),
        }
    }
}

impl From<Row> for Version {
    fn from(row: Row) -> Self {
        Self { state: Some(row.state), changed: row.changed }
    }
}

/// The newest entry of a stream in these segments.
pub(crate) fn find_sealed(
    sealed: &[Arc<Sealed>],
    key: &StreamKey,
) -> Result<Option<Entry>, IndexError> {
    for sealed in sealed.iter().rev() {
        if let Some(entry) = sealed.find(key)? {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The newest version of a stream that is not in memory. What a list of sealed segments lacks was
/// packed before the list was taken from the table, so the cold store is asked last.
pub(crate) fn find(
    sealed: &[Arc<Sealed>],
    cold: &Cold,
    key: &StreamKey,
) -> Result<Version, FindError> {
    if let Some(entry) = find_sealed(sealed, key)? {
        return Ok(entry.into());
    }
    Ok(cold.find(key)?.map(Version::from).unwrap_or_default())
}
