//! One grid for each channel: ranges to scales, arrays to codes and back along an axis.

use numpy::{IntoPyArray, PyArray1, PyArrayDyn, PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::{
    channels::ChannelStats,
    codes::{Codes, F32s, GridsAlong, Out, dequantized, fake_quantized, quantized},
    format::Format,
    grid::{GridScore, score},
    scalars::Integer,
};
use crate::{ChannelGrids, Error, QuantFormat, Range, search};

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

fn parse(format: &str, scale: &Scales<'_>, zero_point: &ZeroPoints<'_>) -> PyResult<ChannelGrids> {
    let format = QuantFormat::parse(format)?;
    Ok(ChannelGrids::new(format, scale.as_slice()?, zero_point.as_slice()?)?)
}

/// Refuses scales or zero points that the format cannot have.
#[pyfunction]
pub(super) fn check_channel_grids(
    format: &str,
    scale: Scales<'_>,
    zero_point: ZeroPoints<'_>,
) -> PyResult<()> {
    parse(format, &scale, &zero_point)?;
    Ok(())
}

/// The figures of `grid_error` for all channels together.
#[pyfunction]
pub(super) fn channel_grid_error(
    py: Python<'_>,
    channels: &ChannelStats,
    format: &str,
    scale: Scales<'_>,
    zero_point: ZeroPoints<'_>,
) -> PyResult<GridScore> {
    let grids = parse(format, &scale, &zero_point)?;
    let state = channels.snapshot(py);
    let (have, want) = (grids.grids().len(), state.len());
    if have != want {
        return Err(Error::Grids { have, want }.into());
    }
    Ok(score(py.detach(|| search::grid_errors(state.channels(), grids.grids()))))
}

/// The codes of a C-contiguous float32 array along an axis, otherwise as `quantize`.
#[pyfunction]
#[pyo3(signature = (values, format, scale, zero_point, axis, out=None))]
pub(super) fn quantize_channels<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: Scales<'py>,
    zero_point: ZeroPoints<'py>,
    axis: Integer,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let grids = parse(format, &scale, &zero_point)?;
    let shape = axis.along(values.shape())?;
    quantized(py, &values, &GridsAlong { grids, shape }, out)
}

/// The real values of a C-contiguous array of codes along an axis, otherwise as `dequantize`.
#[pyfunction]
#[pyo3(signature = (codes, format, scale, zero_point, axis, out=None))]
pub(super) fn dequantize_channels<'py>(
    py: Python<'py>,
    codes: Codes<'py>,
    format: &str,
    scale: Scales<'py>,
    zero_point: ZeroPoints<'py>,
    axis: Integer,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let grids = parse(format, &scale, &zero_point)?;
    let shape = axis.along(codes.shape())?;
    dequantized(py, &codes, &GridsAlong { grids, shape }, out)
}

/// A C-contiguous float32 array quantized and dequantized along an axis.
#[pyfunction]
pub(super) fn fake_quantize_channels<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    scale: Scales<'py>,
    zero_point: ZeroPoints<'py>,
    axis: Integer,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let grids = parse(format, &scale, &zero_point)?;
    let shape = axis.along(values.shape())?;
    fake_quantized(py, &values, &GridsAlong { grids, shape })
}
