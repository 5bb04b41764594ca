//! Grids: ranges to scales, arrays to codes and back.

use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::{exceptions::PyValueError, prelude::*};

use super::{format::Format, histogram::Histogram, real::Real};
use crate::{Density, Grid, QuantFormat, Range, Result, format::Code, search};

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

/// Refuses a scale or a zero point that the format cannot have.
#[pyfunction]
pub(super) fn check_grid(format: &str, scale: f32, zero_point: i32) -> PyResult<()> {
    Grid::new(QuantFormat::parse(format)?, scale, zero_point)?;
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
    let grid = Grid::new(QuantFormat::parse(format)?, scale, zero_point)?;
    let state = histogram.snapshot();
    Ok(score(py.detach(|| search::grid_error(&Density::new(&state), grid))))
}

pub(super) type GridScore = (f64, f64, f64, f64, f64);

pub(super) fn score(error: search::GridError) -> GridScore {
    (error.mse, error.sqnr_db, error.clipped, error.rounded_to_zero, error.cosine)
}

pub(super) type F32s<'py> = PyReadonlyArrayDyn<'py, f32>;

/// Codes of a C-contiguous float32 array, in the smallest standard integer that holds them; those
/// of a floating format as their bits.
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
    let format = QuantFormat::parse(format)?;
    let grid = Grid::new(format, scale, zero_point)?;
    let signed = format.int().is_some_and(crate::format::IntFormat::signed);
    match (signed, format.bits() > 8) {
        (true, false) => codes::<i8>(py, &values, grid, out),
        (false, false) => codes::<u8>(py, &values, grid, out),
        (true, true) => codes::<i16>(py, &values, grid, out),
        (false, true) => codes::<u16>(py, &values, grid, out),
    }
}

fn codes<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    values: &F32s<'py>,
    grid: Grid,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let (input, view) = (values.as_slice()?, values.as_array());
    Ok(filled::<C>(py, view.shape(), out, |codes| {
        grid.quantize(input, codes);
        Ok(())
    })?
    .into_any())
}

/// Codes as they come from Python.
#[derive(FromPyObject)]
pub(super) enum Codes<'py> {
    I8(PyReadonlyArrayDyn<'py, i8>),
    U8(PyReadonlyArrayDyn<'py, u8>),
    I16(PyReadonlyArrayDyn<'py, i16>),
    U16(PyReadonlyArrayDyn<'py, u16>),
}

/// Real values of a C-contiguous array of codes, as float32 of the same shape.
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
    let grid = Grid::new(QuantFormat::parse(format)?, scale, zero_point)?;
    match codes {
        Codes::I8(codes) => real(py, &codes, grid, out),
        Codes::U8(codes) => real(py, &codes, grid, out),
        Codes::I16(codes) => real(py, &codes, grid, out),
        Codes::U16(codes) => real(py, &codes, grid, out),
    }
}

fn real<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    codes: &PyReadonlyArrayDyn<'py, C>,
    grid: Grid,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let (input, view) = (codes.as_slice()?, codes.as_array());
    filled(py, view.shape(), out, |values| {
        grid.dequantize(input, values);
        Ok(())
    })
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
    let (input, view) = (values.as_slice()?, values.as_array());
    filled(py, view.shape(), None, |out| {
        grid.fake_quantize(input, out);
        Ok(())
    })
}

/// Where results are to be written, if not into a new array.
pub(super) type Out<'py> = Option<Bound<'py, PyAny>>;

/// An array that `fill` writes to, without the interpreter: `out` if it is given, else a new one.
///
/// numpy makes it, because numpy asks the system for large pages: into small ones, dequantising 64 MB
/// takes six times as long. Fresh zeros cost nothing beyond the pages.
pub(super) fn filled<'py, T: numpy::Element>(
    py: Python<'py>,
    shape: &[usize],
    out: Out<'py>,
    fill: impl FnOnce(&mut [T]) -> Result<()> + Send,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let array = match out {
        Some(out) => out.cast_into::<PyArrayDyn<T>>()?,
        None => PyArrayDyn::zeros(py, shape, false),
    };
    if array.shape() != shape {
        return Err(PyValueError::new_err("out has another shape than the result"));
    }
    let mut written = array.try_readwrite()?;
    let slice = written.as_slice_mut()?;
    py.detach(|| fill(slice))?;
    drop(written);
    Ok(array)
}
