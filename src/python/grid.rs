//! A single grid: ranges to scales, arrays to codes and back.

use numpy::PyArrayDyn;
use pyo3::prelude::*;

use super::{
    codes::{Codes, F32s, Out, dequantized, fake_quantized, quantized},
    format::Format,
    histogram::Histogram,
    scalars::Real,
};
use crate::{Density, Grid, QuantFormat, Range, search};

/// Scale, zero point and representable range for a real range.
#[pyfunction]
pub(super) fn grid(format: Format, low: Real, high: Real) -> PyResult<(f32, i32, f64, f64)> {
    let (low, high) = (low.0, high.0);
    if !(low.is_finite() && high.is_finite() && low <= high) {
        return Err(crate::Error::Interval { low, high }.into());
    }
    let (format, scaling) = format.resolve()?;
    let grid = format.grid(Range { low, high }, scaling);
    let range = grid.range(scaling);
    Ok((grid.scale(), grid.zero_point(), range.low, range.high))
}

fn parse(format: &str, scale: f32, zero_point: i32) -> PyResult<Grid> {
    Ok(Grid::new(QuantFormat::parse(format)?, scale, zero_point)?)
}

/// Refuses a scale or a zero point that the format cannot have.
#[pyfunction]
pub(super) fn check_grid(format: &str, scale: f32, zero_point: i32) -> PyResult<()> {
    parse(format, scale, zero_point)?;
    Ok(())
}

/// Mean squared error, SQNR in decibels, share clipped, share rounded to zero, cosine.
#[pyfunction]
pub(super) fn grid_error(
    py: Python<'_>,
    histogram: &Histogram,
    format: &str,
    scale: f32,
    zero_point: i32,
) -> PyResult<GridScore> {
    let grid = parse(format, scale, zero_point)?;
    let state = histogram.snapshot();
    Ok(score(py.detach(|| search::grid_error(&Density::new(&state), grid))))
}

pub(super) type GridScore = (f64, f64, f64, f64, f64);

pub(super) fn score(error: search::GridError) -> GridScore {
    (error.mse, error.sqnr_db, error.clipped, error.rounded_to_zero, error.cosine)
}

/// The codes of a C-contiguous float32 array, in the smallest standard integer that holds them. The
/// codes of a floating format are its bits.
#[pyfunction]
#[pyo3(signature = (values, format, scale, zero_point, out=None))]
pub(super) fn quantize<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: f32,
    zero_point: i32,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    quantized(py, &values, &parse(format, scale, zero_point)?, out)
}

/// The real values of a C-contiguous array of codes, as float32 of the same shape.
#[pyfunction]
#[pyo3(signature = (codes, format, scale, zero_point, out=None))]
pub(super) fn dequantize<'py>(
    py: Python<'py>,
    codes: Codes<'py>,
    format: &str,
    scale: f32,
    zero_point: i32,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    dequantized(py, &codes, &parse(format, scale, zero_point)?, out)
}

/// A C-contiguous float32 array quantized and dequantized.
#[pyfunction]
pub(super) fn fake_quantize<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: f32,
    zero_point: i32,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    fake_quantized(py, &values, &parse(format, scale, zero_point)?)
}
