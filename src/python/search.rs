//! The searches: histogram in, range out.

use pyo3::prelude::*;

use super::{histogram::Histogram, whole::Whole};
use crate::{Density, Error, QuantFormat, Range, search};

type Ends = (f64, f64);

fn ends(range: Range) -> Ends {
    (range.low, range.high)
}

/// The finite minimum and maximum.
#[pyfunction]
pub(super) fn minmax(histogram: &Histogram) -> Ends {
    let state = histogram.snapshot();
    let end = |value: Option<f32>| value.map_or(0.0, f64::from);
    (end(state.min()), end(state.max()))
}

/// The range that covers a share `q` of the values.
#[pyfunction]
pub(super) fn percentile(
    py: Python<'_>,
    histogram: &Histogram,
    q: f64,
    symmetric: bool,
) -> PyResult<Ends> {
    let state = histogram.snapshot();
    Ok(py.detach(|| search::percentile(&state, q, symmetric)).map(ends)?)
}

/// The range of least divergence on a view of `num_bins` bins.
#[pyfunction]
pub(super) fn kl(
    py: Python<'_>,
    histogram: &Histogram,
    num_bins: Whole,
    format: &str,
    symmetric: bool,
) -> PyResult<Ends> {
    let format = QuantFormat::parse(format)?;
    let num_bins = num_bins.within(Error::NumBins)?;
    let state = histogram.snapshot();
    Ok(py.detach(|| search::kl(&state, num_bins, format, symmetric)).map(ends)?)
}

/// The range of least squared error.
#[pyfunction]
pub(super) fn mse(
    py: Python<'_>,
    histogram: &Histogram,
    format: &str,
    symmetric: bool,
) -> PyResult<Ends> {
    let format = QuantFormat::parse(format)?;
    let state = histogram.snapshot();
    Ok(ends(py.detach(|| search::mse(&Density::new(&state), format, symmetric))))
}
