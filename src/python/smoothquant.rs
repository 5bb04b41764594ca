//! The errors of `SmoothQuant` candidates as numpy arrays, one row for each candidate.

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use super::{channels::ChannelStats, format::Format, histogram::Histogram};
use crate::{
    ChannelGrids, Error, QuantFormat,
    search::smoothquant::{self, Scales},
};

/// A C-contiguous array of candidates × channels.
type Candidates<'py> = PyReadonlyArray2<'py, f32>;

fn scales<'a>(candidates: &'a Candidates<'_>) -> PyResult<Scales<'a>> {
    Ok(Scales::new(candidates.as_slice()?, candidates.shape()[1])?)
}

/// For each candidate, the histogram of the activation with divided channels.
#[pyfunction]
pub(super) fn activation_histograms(
    py: Python<'_>,
    channels: &ChannelStats,
    candidates: Candidates<'_>,
) -> PyResult<Vec<Histogram>> {
    let (state, scales) = (channels.snapshot(py), scales(&candidates)?);
    let found = py.detach(|| smoothquant::activation_histograms(state.channels(), scales))?;
    Ok(found.into_iter().map(Histogram::from).collect())
}

type Errors<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<f64>>);

/// For each candidate, the mean squared errors of the divided channels on its grid, multiplied by
/// the squared scales; and the mean squares of the channels.
#[pyfunction]
pub(super) fn activation_errors<'py>(
    py: Python<'py>,
    channels: &ChannelStats,
    candidates: Candidates<'py>,
    format: &str,
    scale: PyReadonlyArray1<'py, f32>,
    zero_point: PyReadonlyArray1<'py, i32>,
) -> PyResult<Errors<'py>> {
    let format = QuantFormat::parse(format)?;
    let grids = ChannelGrids::new(format, scale.as_slice()?, zero_point.as_slice()?)?;
    let (state, scales) = (channels.snapshot(py), scales(&candidates)?);
    let found =
        py.detach(|| smoothquant::activation_errors(state.channels(), scales, grids.grids()))?;
    let errors = found.errors.into_pyarray(py).reshape([candidates.shape()[0], state.len()])?;
    Ok((errors, found.squares.into_pyarray(py)))
}

/// For each candidate, the sums of squared errors of the columns of a C-contiguous weight that is
/// multiplied by its scales and quantized row by row.
#[pyfunction]
pub(super) fn weight_errors<'py>(
    py: Python<'py>,
    matrix: PyReadonlyArray2<'py, f32>,
    candidates: Candidates<'py>,
    format: Format,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (format, scaling) = format.resolve()?;
    let (values, scales) = (matrix.as_slice()?, scales(&candidates)?);
    if matrix.shape()[1] != candidates.shape()[1] {
        return Err(Error::Grids { have: candidates.shape()[1], want: matrix.shape()[1] }.into());
    }
    let found = py.detach(|| smoothquant::weight_errors(values, scales, format, scaling))?;
    found.into_pyarray(py).reshape(candidates.dims())
}
