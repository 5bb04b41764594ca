//! Grids: ranges to scales, arrays to codes and back.

use numpy::{IntoPyArray, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use super::histogram::Histogram;
use crate::{Density, Grid, QuantFormat, Range, search};

/// Scale, zero point and representable range for a real range.
#[pyfunction]
pub(super) fn grid(
    format: &str,
    low: f64,
    high: f64,
    symmetric: bool,
) -> PyResult<(f32, i32, f64, f64)> {
    if !(low.is_finite() && high.is_finite() && low <= high) {
        return Err(crate::Error::Interval { low, high }.into());
    }
    let grid = QuantFormat::parse(format)?.grid(Range { low, high }, symmetric);
    let range = grid.range(symmetric);
    Ok((grid.scale(), grid.zero_point(), range.low, range.high))
}

/// Refuses a scale or a zero point that the format cannot have.
#[pyfunction]
pub(super) fn check_grid(format: &str, scale: f32, zero_point: i32) -> PyResult<()> {
    Grid::new(QuantFormat::parse(format)?, scale, zero_point)?;
    Ok(())
}

/// Mean squared error, SQNR in decibels, share clipped and share rounded to zero.
#[pyfunction]
pub(super) fn grid_error(
    py: Python<'_>,
    histogram: &Histogram,
    format: &str,
    scale: f32,
    zero_point: i32,
) -> PyResult<(f64, f64, f64, f64)> {
    let grid = Grid::new(QuantFormat::parse(format)?, scale, zero_point)?;
    let state = histogram.snapshot();
    let error = py.detach(|| search::grid_error(&Density::new(&state), grid));
    Ok((error.mse, error.sqnr_db, error.clipped, error.rounded_to_zero))
}

type F32s<'py> = PyReadonlyArrayDyn<'py, f32>;

/// Codes of a C-contiguous float32 array, as int8 or uint8 of the same shape.
#[pyfunction]
pub(super) fn quantize<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: f32,
    zero_point: i32,
) -> PyResult<Bound<'py, PyAny>> {
    let format = QuantFormat::parse(format)?;
    let grid = Grid::new(format, scale, zero_point)?;
    let input = values.as_slice()?;
    let shape = values.as_array().shape().to_vec();
    Ok(if format.qmin() < 0 {
        let mut codes = vec![0i8; input.len()];
        py.detach(|| grid.quantize(input, &mut codes));
        shaped(py, codes, &shape)?.into_any()
    } else {
        let mut codes = vec![0u8; input.len()];
        py.detach(|| grid.quantize(input, &mut codes));
        shaped(py, codes, &shape)?.into_any()
    })
}

/// Codes as they come from Python.
#[derive(FromPyObject)]
pub(super) enum Codes<'py> {
    I8(PyReadonlyArrayDyn<'py, i8>),
    U8(PyReadonlyArrayDyn<'py, u8>),
}

/// Real values of a C-contiguous array of codes, as float32 of the same shape.
#[pyfunction]
pub(super) fn dequantize<'py>(
    py: Python<'py>,
    codes: Codes<'py>,
    format: &str,
    scale: f32,
    zero_point: i32,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let grid = Grid::new(QuantFormat::parse(format)?, scale, zero_point)?;
    match codes {
        Codes::I8(codes) => {
            let input = codes.as_slice()?;
            let mut values = vec![0.0; input.len()];
            py.detach(|| grid.dequantize(input, &mut values));
            shaped(py, values, codes.as_array().shape())
        }
        Codes::U8(codes) => {
            let input = codes.as_slice()?;
            let mut values = vec![0.0; input.len()];
            py.detach(|| grid.dequantize(input, &mut values));
            shaped(py, values, codes.as_array().shape())
        }
    }
}

/// A C-contiguous float32 array quantised and dequantised.
#[pyfunction]
pub(super) fn fake_quantize<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: f32,
    zero_point: i32,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let grid = Grid::new(QuantFormat::parse(format)?, scale, zero_point)?;
    let input = values.as_slice()?;
    let mut out = vec![0.0; input.len()];
    py.detach(|| grid.fake_quantize(input, &mut out));
    shaped(py, out, values.as_array().shape())
}

fn shaped<'py, T: numpy::Element>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let array = values.into_pyarray(py);
    array.reshape(shape)
}
