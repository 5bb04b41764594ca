//! Weights in blocks of integer codes.

use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use super::{format::Format, grid::F32s, whole::Whole};
use crate::{
    Error,
    format::{Code, IntFormat},
    search::BlockSearch,
};

type Coded<'py> = (Bound<'py, PyAny>, Bound<'py, PyArrayDyn<f32>>, Bound<'py, PyAny>);

/// Codes of a C-contiguous array, and scale and zero point of each block along an axis; the array is
/// searched for the share of each block's range with the least squared error.
#[pyfunction]
pub(super) fn code_blocks<'py>(
    py: Python<'py>,
    values: F32s<'py>,
    format: Format,
    axis: Whole,
    size: Whole,
    shares: PyReadonlyArray1<'py, f32>,
) -> PyResult<Coded<'py>> {
    let (format, scaling) = format.resolve()?;
    let signed = format.int().is_some_and(IntFormat::signed);
    let shape = axis.along(values.as_array().shape())?;
    let size = size.within(Error::BlockSize)?;
    let search = BlockSearch::new(shape, size, format, scaling, shares.as_slice()?)?;
    match (signed, format.bits() > 8) {
        (true, false) => coded::<i8>(py, &values, search, &axis),
        (false, false) => coded::<u8>(py, &values, search, &axis),
        (true, true) => coded::<i16>(py, &values, search, &axis),
        (false, true) => coded::<u16>(py, &values, search, &axis),
    }
}

fn coded<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    values: &F32s<'py>,
    search: BlockSearch<'_>,
    axis: &Whole,
) -> PyResult<Coded<'py>> {
    let (input, view) = (values.as_slice()?, values.as_array());
    let mut blocks = view.shape().to_vec();
    let at = axis.clamped().rem_euclid(blocks.len() as i64) as usize;
    blocks[at] = search.along();
    let codes = PyArrayDyn::<C>::zeros(py, view.shape(), false);
    let scales = PyArrayDyn::<f32>::zeros(py, blocks.clone(), false);
    let zero_points = PyArrayDyn::<C>::zeros(py, blocks, false);
    {
        let (mut c, mut s, mut z) =
            (codes.readwrite(), scales.readwrite(), zero_points.readwrite());
        let (c, s, z) = (c.as_slice_mut()?, s.as_slice_mut()?, z.as_slice_mut()?);
        py.detach(|| search.code(input, c, s, z));
    }
    Ok((codes.into_any(), scales, zero_points.into_any()))
}
