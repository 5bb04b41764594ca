//! Weights in blocks of integer codes.

use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use super::{
    codes::{CodeType, F32s},
    format::Format,
    scalars::Integer,
};
use crate::{Error, format::Code, search::BlockSearch};

type CodedBlocks<'py> = (Bound<'py, PyAny>, Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyAny>);

/// The codes of a C-contiguous array, and the scale and zero point of each block along an axis.
/// Each block gets the share of its range that has the minimum squared error.
#[pyfunction]
pub(super) fn code_blocks<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: Format,
    axis: Integer,
    size: Integer,
    shares: PyReadonlyArray1<'py, f32>,
) -> PyResult<CodedBlocks<'py>> {
    let (format, scaling) = format.resolve()?;
    let shape = axis.along(values.as_array().shape())?;
    let size = size.within(Error::BlockSize)?;
    let search = BlockSearch::new(shape, size, format, scaling, shares.as_slice()?)?;
    match CodeType::of(format) {
        CodeType::I8 => coded::<i8>(py, &values, search, &axis),
        CodeType::U8 => coded::<u8>(py, &values, search, &axis),
        CodeType::I16 => coded::<i16>(py, &values, search, &axis),
        CodeType::U16 => coded::<u16>(py, &values, search, &axis),
    }
}

fn coded<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    values: &F32s<'py>,
    search: BlockSearch<'_>,
    axis: &Integer,
) -> PyResult<CodedBlocks<'py>> {
    let (input, view) = (values.as_slice()?, values.as_array());
    let mut blocks = view.shape().to_vec();
    let at = axis.clamped().rem_euclid(blocks.len() as i64) as usize;
    blocks[at] = search.blocks_along();
    let codes = PyArrayDyn::<C>::zeros(py, view.shape(), false);
    let scales = PyArrayDyn::<f32>::zeros(py, blocks.clone(), false);
    let zero_points = PyArrayDyn::<C>::zeros(py, blocks, false);
    {
        let (mut c, mut s, mut z) =
            (codes.readwrite(), scales.readwrite(), zero_points.readwrite());
        let (c, s, z) = (c.as_slice_mut()?, s.as_slice_mut()?, z.as_slice_mut()?);
        py.detach(|| search.quantize(input, c, s, z));
    }
    Ok((codes.into_any(), scales, zero_points.into_any()))
}
