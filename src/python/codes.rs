//! Arrays to codes and back: what single grids and grids by channel have in common.

use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{ChannelGrids, Grid, QuantFormat, Result, format::Code, shape::Shape};

pub(super) type F32s<'py> = PyReadonlyArrayDyn<'py, f32>;

/// The array for the results; `None` for a new one.
pub(super) type Out<'py> = Option<Bound<'py, PyAny>>;

/// Codes from Python.
#[derive(FromPyObject)]
pub(super) enum Codes<'py> {
    I8(PyReadonlyArrayDyn<'py, i8>),
    U8(PyReadonlyArrayDyn<'py, u8>),
    I16(PyReadonlyArrayDyn<'py, i16>),
    U16(PyReadonlyArrayDyn<'py, u16>),
}

impl Codes<'_> {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::I8(codes) => codes.shape(),
            Self::U8(codes) => codes.shape(),
            Self::I16(codes) => codes.shape(),
            Self::U16(codes) => codes.shape(),
        }
    }
}

/// The integer type that stores the codes of a format.
pub(super) enum CodeType {
    I8,
    U8,
    I16,
    U16,
}

impl CodeType {
    pub(super) fn of(format: QuantFormat) -> Self {
        let signed = format.int().is_some_and(crate::format::IntFormat::signed);
        match (signed, format.bits() > 8) {
            (true, false) => Self::I8,
            (false, false) => Self::U8,
            (true, true) => Self::I16,
            (false, true) => Self::U16,
        }
    }
}

/// The grid or the grids of an array.
pub(super) trait ArrayGrid: Sync {
    fn format(&self) -> QuantFormat;
    fn quantize<C: Code>(&self, values: &[f32], codes: &mut [C]) -> Result<()>;
    fn dequantize<C: Code>(&self, codes: &[C], values: &mut [f32]) -> Result<()>;
    fn fake_quantize(&self, values: &[f32], out: &mut [f32]) -> Result<()>;
}

impl ArrayGrid for Grid {
    fn format(&self) -> QuantFormat {
        Grid::format(*self)
    }

    fn quantize<C: Code>(&self, values: &[f32], codes: &mut [C]) -> Result<()> {
        Grid::quantize(*self, values, codes);
        Ok(())
    }

    fn dequantize<C: Code>(&self, codes: &[C], values: &mut [f32]) -> Result<()> {
        Grid::dequantize(*self, codes, values);
        Ok(())
    }

    fn fake_quantize(&self, values: &[f32], out: &mut [f32]) -> Result<()> {
        Grid::fake_quantize(*self, values, out);
        Ok(())
    }
}

/// One grid for each channel of an array.
pub(super) struct GridsAlong {
    pub(super) grids: ChannelGrids,
    pub(super) shape: Shape,
}

impl ArrayGrid for GridsAlong {
    fn format(&self) -> QuantFormat {
        self.grids.format()
    }

    fn quantize<C: Code>(&self, values: &[f32], codes: &mut [C]) -> Result<()> {
        self.grids.quantize(values, self.shape, codes)
    }

    fn dequantize<C: Code>(&self, codes: &[C], values: &mut [f32]) -> Result<()> {
        self.grids.dequantize(codes, self.shape, values)
    }

    fn fake_quantize(&self, values: &[f32], out: &mut [f32]) -> Result<()> {
        self.grids.fake_quantize(values, self.shape, out)
    }
}

/// The codes of a C-contiguous array.
pub(super) fn quantized<'py>(
    py: Python<'py>,
    values: &F32s<'py>,
    grid: &impl ArrayGrid,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    match CodeType::of(grid.format()) {
        CodeType::I8 => codes::<i8>(py, values, grid, out),
        CodeType::U8 => codes::<u8>(py, values, grid, out),
        CodeType::I16 => codes::<i16>(py, values, grid, out),
        CodeType::U16 => codes::<u16>(py, values, grid, out),
    }
}

fn codes<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    values: &F32s<'py>,
    grid: &impl ArrayGrid,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let input = values.as_slice()?;
    let codes = filled::<C>(py, values.shape(), out, |codes| grid.quantize(input, codes))?;
    Ok(codes.into_any())
}

/// The real values of a C-contiguous array of codes.
pub(super) fn dequantized<'py>(
    py: Python<'py>,
    codes: &Codes<'py>,
    grid: &impl ArrayGrid,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    match codes {
        Codes::I8(codes) => real(py, codes, grid, out),
        Codes::U8(codes) => real(py, codes, grid, out),
        Codes::I16(codes) => real(py, codes, grid, out),
        Codes::U16(codes) => real(py, codes, grid, out),
    }
}

fn real<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    codes: &PyReadonlyArrayDyn<'py, C>,
    grid: &impl ArrayGrid,
    out: Out<'py>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let input = codes.as_slice()?;
    filled(py, codes.shape(), out, |values| grid.dequantize(input, values))
}

/// A C-contiguous array quantized and dequantized.
pub(super) fn fake_quantized<'py>(
    py: Python<'py>,
    values: &F32s<'py>,
    grid: &impl ArrayGrid,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let input = values.as_slice()?;
    filled(py, values.shape(), None, |out| grid.fake_quantize(input, out))
}

/// An array that `fill` writes to without the interpreter: `out` if given, otherwise a new one.
///
/// numpy allocates it, because numpy asks the system for large pages. Into the small pages of a
/// `Vec`, dequantizing 64 MB takes 2.6 instead of 1.2 ns an element. Fresh zeros cost only the
/// pages.
fn filled<'py, T: numpy::Element>(
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
