//! Block formats: arrays to codes and scales, and back.

use numpy::{IntoPyArray, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use super::histogram::Histogram;
use crate::{Error, format::BlockFormat};

type F32s<'py> = PyReadonlyArrayDyn<'py, f32>;
type U8s<'py> = PyReadonlyArrayDyn<'py, u8>;
type Bytes<'py> = Bound<'py, PyArrayDyn<u8>>;

/// Elements along the last axis; all of them where there is none.
fn row_len(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// The codes of a C-contiguous array and of its scales, one for each block of the last axis.
#[pyfunction]
#[pyo3(signature = (values, format, global_scale))]
pub(super) fn block_quantize<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    global_scale: Option<f32>,
) -> PyResult<(Bytes<'py>, Bytes<'py>)> {
    let format = BlockFormat::parse(format, global_scale)?;
    let input = values.as_slice()?;
    let shape = values.as_array().shape().to_vec();
    let row = row_len(&shape);
    let mut codes = vec![0; input.len()];
    let mut scales = vec![0; format.blocks(input.len(), row)];
    py.detach(|| format.quantize(row, input, &mut codes, &mut scales));
    let mut blocks = shape.clone();
    if let Some(last) = blocks.last_mut() {
        *last = row.div_ceil(format.block_size());
    }
    Ok((codes.into_pyarray(py).reshape(shape)?, scales.into_pyarray(py).reshape(blocks)?))
}

/// The values of C-contiguous codes and scales.
#[pyfunction]
#[pyo3(signature = (codes, scales, format, global_scale))]
pub(super) fn block_dequantize<'py>(
    py: Python<'py>,
    codes: U8s<'py>,
    scales: U8s<'py>,
    format: &str,
    global_scale: Option<f32>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let format = BlockFormat::parse(format, global_scale)?;
    let (input, scales) = (codes.as_slice()?, scales.as_slice()?);
    let shape = codes.as_array().shape().to_vec();
    let row = row_len(&shape);
    let expected = format.blocks(input.len(), row);
    if scales.len() != expected {
        let (codes, scales) = (input.len(), scales.len());
        return Err(Error::BlockLengths { codes, scales, expected }.into());
    }
    let mut values = vec![0.0; input.len()];
    py.detach(|| format.dequantize(row, input, scales, &mut values));
    values.into_pyarray(py).reshape(shape)
}

/// A C-contiguous array quantized and dequantized.
#[pyfunction]
#[pyo3(signature = (values, format, global_scale))]
pub(super) fn block_fake_quantize<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    global_scale: Option<f32>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let format = BlockFormat::parse(format, global_scale)?;
    let input = values.as_slice()?;
    let shape = values.as_array().shape().to_vec();
    let mut out = vec![0.0; input.len()];
    py.detach(|| format.fake_quantize(row_len(&shape), input, &mut out));
    out.into_pyarray(py).reshape(shape)
}

type Statistics<'py> = (Histogram, Bound<'py, PyArray1<u64>>, u64, u64, u64);

/// Block maxima, blocks by the code of their scale, and the numbers of elements, of saturated ones
/// and of those rounded to zero.
#[pyfunction]
#[pyo3(signature = (values, format, global_scale))]
pub(super) fn block_statistics<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: &str,
    global_scale: Option<f32>,
) -> PyResult<Statistics<'py>> {
    let format = BlockFormat::parse(format, global_scale)?;
    let input = values.as_slice()?;
    let row = row_len(values.as_array().shape());
    let found = py.detach(|| format.statistics(row, input));
    let scales = found.scales.to_vec().into_pyarray(py);
    let maxima = found.block_maxima.into();
    Ok((maxima, scales, found.elements, found.saturated, found.rounded_to_zero))
}

/// The largest magnitude of each block of the last axis, as a histogram.
#[pyfunction]
#[pyo3(signature = (values, format, global_scale))]
pub(super) fn block_maxima(
    py: Python<'_>,
    values: F32s<'_>,
    format: &str,
    global_scale: Option<f32>,
) -> PyResult<Histogram> {
    let format = BlockFormat::parse(format, global_scale)?;
    let input = values.as_slice()?;
    let row = row_len(values.as_array().shape());
    Ok(py.detach(|| format.block_maxima(row, input)).into())
}
