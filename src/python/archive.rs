//! Calibrators to bytes and back.

use pyo3::{prelude::*, types::PyBytes};

use super::{channels::ChannelStats, tensor::TensorStats};
use crate::wire::{Archive, Entry};

/// The statistics of one tensor, or of its channels.
#[derive(FromPyObject, IntoPyObject)]
pub(super) enum Stats {
    Tensor(Py<TensorStats>),
    Channels(Py<ChannelStats>),
}

impl Stats {
    fn snapshot(&self, py: Python<'_>) -> Entry {
        match self {
            Self::Tensor(stats) => Entry::Tensor(stats.get().snapshot()),
            Self::Channels(stats) => Entry::Channels(stats.get().snapshot(py)),
        }
    }

    fn new(py: Python<'_>, entry: Entry) -> PyResult<Self> {
        Ok(match entry {
            Entry::Tensor(stats) => Self::Tensor(Py::new(py, TensorStats::from(stats))?),
            Entry::Channels(stats) => Self::Channels(Py::new(py, ChannelStats::from(stats))?),
        })
    }
}

type Named = (String, Stats);

/// The bytes of settings and named tensors.
#[pyfunction]
pub(super) fn write_archive<'py>(
    py: Python<'py>,
    settings: &str,
    tensors: Vec<Named>,
) -> Bound<'py, PyBytes> {
    let tensors: Vec<_> =
        tensors.into_iter().map(|(name, stats)| (name, stats.snapshot(py))).collect();
    let bytes = py.detach(|| {
        Archive::write(settings, tensors.iter().map(|(name, stats)| (name.as_str(), stats)))
    });
    PyBytes::new(py, &bytes)
}

/// Settings and named tensors from bytes.
#[pyfunction]
pub(super) fn read_archive(py: Python<'_>, data: &[u8]) -> PyResult<(String, Vec<Named>)> {
    let Archive { settings, tensors } = py.detach(|| Archive::read(data))?;
    let tensors = tensors
        .into_iter()
        .map(|(name, entry)| Ok((name, Stats::new(py, entry)?)))
        .collect::<PyResult<_>>()?;
    Ok((settings, tensors))
}
