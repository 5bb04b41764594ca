//! Grids by channel: ranges to scales, arrays to codes and back along an axis.

use numpy::{IntoPyArray, PyArray1, PyArrayDyn, PyReadonlyArray1, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use super::{
    channels::ChannelStats,
    format::Format,
    grid::{Codes, F32s, GridScore, Out, filled, score},
    whole::Whole,
};
use crate::{
    Error, Grids, QuantFormat, Range,
    format::{Code, IntFormat},
    search,
};

type Scales<'py> = PyReadonlyArray1<'py, f32>;
type ZeroPoints<'py> = PyReadonlyArray1<'py, i32>;
type Ends<'py> = PyReadonlyArray1<'py, f64>;
type Parameters<'py> = (
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
);

/// Scale, zero point and representable range for the real range of each channel.
#[pyfunction]
pub(super) fn channel_grids<'py>(
    py: Python<'py>,
    format: Format,
    low: Ends<'py>,
    high: Ends<'py>,
) -> PyResult<Parameters<'py>> {
    let (format, scaling) = format.resolve()?;
    let (low, high) = (low.as_slice()?, high.as_slice()?);
    let (mut scales, mut zero_points) = (Vec::new(), Vec::new());
    let (mut lows, mut highs) = (Vec::new(), Vec::new());
    for (channel, (&low, &high)) in low.iter().zip(high).enumerate() {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            let error = Box::new(Error::Interval { low, high });
            return Err(Error::InChannel { channel, error }.into());
        }
        let grid = format.grid(Range { low, high }, scaling);
        let range = grid.range(scaling);
        scales.push(grid.scale());
        zero_points.push(grid.zero_point());
        lows.push(range.low);
        highs.push(range.high);
    }
    Ok((
        scales.into_pyarray(py),
        zero_points.into_pyarray(py),
        lows.into_pyarray(py),
        highs.into_pyarray(py),
    ))
}

fn grids(format: &str, scale: &Scales<'_>, zero_point: &ZeroPoints<'_>) -> PyResult<Grids> {
    let format = QuantFormat::parse(format)?;
    Ok(Grids::new(format, scale.as_slice()?, zero_point.as_slice()?)?)
}

/// Refuses scales or zero points that the format cannot have.
#[pyfunction]
pub(super) fn check_channel_grids(
    format: &str,
    scale: Scales<'_>,
    zero_point: ZeroPoints<'_>,
) -> PyResult<()> {
    grids(format, &scale, &zero_point)?;
    Ok(())
}

/// As `grid_error`, of all channels together.
#[pyfunction]
pub(super) fn channel_grid_error(
    py: Python<'_>,
    channels: &ChannelStats,
    format: &str,
    scale: Scales<'_>,
    zero_point: ZeroPoints<'_>,
) -> PyResult<GridScore> {
    let grids = grids(format, &scale, &zero_point)?;
    let state = channels.snapshot(py);
    let (have, want) = (grids.grids().len(), state.len());
    if have != want {
        return Err(Error::Grids { have, want }.into());
    }
    Ok(score(py.detach(|| search::grid_errors(state.channels(), grids.grids()))))
}

/// Codes along an axis of a C-contiguous float32 array; otherwise as `quantize`.
#[pyfunction]
#[pyo3(signature = (values, format, scale, zero_point, axis, out=None))]
pub(super) fn quantize_channels<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: Scales<'py>,
    zero_point: ZeroPoints<'py>,
    axis: Whole,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let grids = grids(format, &scale, &zero_point)?;
    let signed = grids.format().int().is_some_and(IntFormat::signed);
    match (signed, grids.format().bits() > 8) {
        (true, false) => codes::<i8>(py, &values, &grids, &axis, out),
        (false, false) => codes::<u8>(py, &values, &grids, &axis, out),
        (true, true) => codes::<i16>(py, &values, &grids, &axis, out),
        (false, true) => codes::<u16>(py, &values, &grids, &axis, out),
    }
}

fn codes<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    values: &F32s<'py>,
    grids: &Grids,
    axis: &Whole,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let (input, view) = (values.as_slice()?, values.as_array());
    let shape = axis.along(view.shape())?;
    let codes = filled::<C>(py, view.shape(), out, |codes| grids.quantize(input, shape, codes))?;
    Ok(codes.into_any())
}

/// Real values along an axis of a C-contiguous array of codes; otherwise as `dequantize`.
#[pyfunction]
#[pyo3(signature = (codes, format, scale, zero_point, axis, out=None))]
pub(super) fn dequantize_channels<'py>(
    py: Python<'py>,
    codes: Codes<'py>,
    format: &str,
    scale: Scales<'py>,
    zero_point: ZeroPoints<'py>,
    axis: Whole,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let grids = grids(format, &scale, &zero_point)?;
    match codes {
        Codes::I8(codes) => real(py, &codes, &grids, &axis, out),
        Codes::U8(codes) => real(py, &codes, &grids, &axis, out),
        Codes::I16(codes) => real(py, &codes, &grids, &axis, out),
        Codes::U16(codes) => real(py, &codes, &grids, &axis, out),
    }
}

fn real<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    codes: &PyReadonlyArrayDyn<'py, C>,
    grids: &Grids,
    axis: &Whole,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let (input, view) = (codes.as_slice()?, codes.as_array());
    let shape = axis.along(view.shape())?;
    filled(py, view.shape(), out, |values| grids.dequantize(input, shape, values))
}

/// A C-contiguous float32 array quantised and dequantised along an axis.
#[pyfunction]
pub(super) fn fake_quantize_channels<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: Scales<'py>,
    zero_point: ZeroPoints<'py>,
    axis: Whole,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let grids = grids(format, &scale, &zero_point)?;
    let (input, view) = (values.as_slice()?, values.as_array());
    let shape = axis.along(view.shape())?;
    filled(py, view.shape(), None, |out| grids.fake_quantize(input, shape, out))
}
