//! Calibrators to bytes and back.

use pyo3::{prelude::*, types::PyBytes};

use super::tensor::TensorStats;
use crate::wire::Archive;

type Named = (String, Py<TensorStats>);

/// The bytes of named tensors with their settings.
#[pyfunction]
pub(super) fn write_archive<'py>(
    py: Python<'py>,
    settings: &str,
    tensors: Vec<Named>,
) -> Bound<'py, PyBytes> {
    let tensors: Vec<_> =
        tensors.into_iter().map(|(name, stats)| (name, stats.get().snapshot())).collect();
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
        .map(|(name, stats)| Ok((name, Py::new(py, TensorStats::from(stats))?)))
        .collect::<PyResult<_>>()?;
    Ok((settings, tensors))
}
