//! Arrays from Python, without a copy where their memory can be read as it is.

use half::{bf16, f16, slice::HalfBitsSliceExt};
use numpy::{Element as NumpyElement, PyReadonlyArrayDyn, PyUntypedArray, ndarray::ArrayViewD};
use pyo3::{exceptions::PyTypeError, prelude::*};

use crate::{Histogram, float::Element};

/// Elements gathered at a time from an array that is not contiguous.
const GATHER: usize = 1 << 16;

/// An array of one of the element types that can be observed.
pub(super) enum Floats<'py> {
    F16(PyReadonlyArrayDyn<'py, f16>),
    BF16(PyReadonlyArrayDyn<'py, u16>), // the bits, contiguous; numpy has no such type of its own
    F32(PyReadonlyArrayDyn<'py, f32>),
    F64(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> FromPyObject<'_, 'py> for Floats<'py> {
    type Error = PyErr;

    /// Takes numpy arrays as they are; anything else goes through `quantcal._arrays.as_floats`, which
    /// knows `DLPack`, `__array__`, bfloat16 and the error to raise.
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if is_plain(&object)?
            && let Some(floats) = Self::native(&object)
        {
            return Ok(floats);
        }
        let helper = object.py().import("quantcal._arrays")?.getattr("as_floats")?;
        let (array, is_bfloat16): (Bound<'py, PyAny>, bool) = helper.call1((object,))?.extract()?;
        if is_bfloat16 {
            return Ok(Self::BF16(array.extract()?));
        }
        Self::native(&array).ok_or_else(|| {
            PyTypeError::new_err(format!("as_floats returned {array:?}, which is not float"))
        })
    }
}

/// Whether the memory may be read as it is: an ndarray itself, not a subclass (a masked array
/// hides elements), and aligned (else strides need not be multiples of the element size).
fn is_plain(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Ok(array) = object.cast_exact::<PyUntypedArray>() else { return Ok(false) };
    array.getattr("flags")?.getattr("aligned")?.extract()
}

impl<'py> Floats<'py> {
    fn native(object: &Bound<'py, PyAny>) -> Option<Self> {
        if let Ok(array) = object.extract() {
            return Some(Self::F32(array));
        }
        if let Ok(array) = object.extract() {
            return Some(Self::F64(array));
        }
        object.extract().ok().map(Self::F16)
    }

    /// The elements, readable without the interpreter.
    pub(super) fn data(&self) -> PyResult<Data<'_>> {
        Ok(match self {
            Self::F16(a) => Data::F16(View::of(a)),
            Self::BF16(a) => Data::BF16(View::Slice(a.as_slice()?.reinterpret_cast())),
            Self::F32(a) => Data::F32(View::of(a)),
            Self::F64(a) => Data::F64(View::of(a)),
        })
    }
}

/// The elements of an array, free of the interpreter.
///
/// Nothing stops another Python thread from writing to the array meanwhile. A value read while it
/// is written may be miscounted, and no more: every bit pattern has a bin or a counter.
pub(super) enum Data<'a> {
    F16(View<'a, f16>),
    BF16(View<'a, bf16>),
    F32(View<'a, f32>),
    F64(View<'a, f64>),
}

impl Data<'_> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F16(view) => view.len(),
            Self::BF16(view) => view.len(),
            Self::F32(view) => view.len(),
            Self::F64(view) => view.len(),
        }
    }

    /// Records all elements; returns the extremes of the finite ones.
    pub(super) fn record(&self, histogram: &mut Histogram) -> Option<(f32, f32)> {
        match self {
            Self::F16(view) => view.record(histogram),
            Self::BF16(view) => view.record(histogram),
            Self::F32(view) => view.record(histogram),
            Self::F64(view) => view.record(histogram),
        }
    }
}

pub(super) enum View<'a, T> {
    Slice(&'a [T]),
    Strided(ArrayViewD<'a, T>),
}

impl<'a, T: NumpyElement> View<'a, T> {
    fn of(array: &'a PyReadonlyArrayDyn<'_, T>) -> Self {
        // Any contiguous layout will do: the order of the elements does not matter.
        array.as_slice().map_or_else(|_| Self::Strided(array.as_array()), Self::Slice)
    }
}

impl<T: Element> View<'_, T> {
    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Strided(array) => array.len(),
        }
    }

    fn record(&self, histogram: &mut Histogram) -> Option<(f32, f32)> {
        match self {
            Self::Slice(slice) => histogram.record(slice),
            Self::Strided(array) => {
                let mut gathered = Vec::with_capacity(array.len().min(GATHER));
                let mut extremes: Option<(f32, f32)> = None;
                let mut elements = array.iter().copied();
                loop {
                    gathered.clear();
                    gathered.extend(elements.by_ref().take(GATHER));
                    let found = histogram.record(&gathered);
                    extremes = match (extremes, found) {
                        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                        (a, b) => a.or(b),
                    };
                    if gathered.len() < GATHER {
                        return extremes;
                    }
                }
            }
        }
    }
}
