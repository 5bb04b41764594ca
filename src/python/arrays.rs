//! Arrays from Python, without a copy where their memory can be read directly.

use std::{borrow::Cow, cmp::Reverse};

use half::{bf16, f16, slice::HalfBitsSliceExt};
use numpy::{
    Element as NumpyElement, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
    ndarray::{ArrayViewD, ArrayViewMut1, Axis},
};
use pyo3::{exceptions::PyTypeError, prelude::*};

use crate::{
    BufferedStats, ChannelStats, DeferredStats, Histogram, Result, channels::NonFiniteChannels,
    float::Element, shape::Shape,
};

/// Elements that are gathered at a time from an array that is not contiguous.
const GATHER: usize = 1 << 16;

/// An array of one of the element types that can be observed.
pub(super) enum Floats<'py> {
    F16(PyReadonlyArrayDyn<'py, f16>),
    BF16(PyReadonlyArrayDyn<'py, u16>), // the bits, contiguous, since numpy has no bfloat16
    F32(PyReadonlyArrayDyn<'py, f32>),
    F64(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> FromPyObject<'_, 'py> for Floats<'py> {
    type Error = PyErr;

    /// Takes numpy arrays directly. Other objects go through `quantcal._arrays.as_floats`, which
    /// handles `DLPack`, `__array__`, bfloat16 and errors.
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        // Not a subclass of ndarray: a masked array has hidden elements.
        if object.cast_exact::<PyUntypedArray>().is_ok()
            && let Some(floats) = Self::native(&object)
            && floats.is_aligned()
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

/// Whether every element is aligned for its type. Otherwise strides need not be multiples of the
/// element size. Reading numpy's flag instead would take a tenth of a call with a small array.
fn is_aligned<T: NumpyElement>(array: &PyReadonlyArrayDyn<'_, T>) -> bool {
    let whole = |stride: &isize| stride % align_of::<T>() as isize == 0;
    array.data().is_aligned() && (array.is_contiguous() || array.strides().iter().all(whole))
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

    fn is_aligned(&self) -> bool {
        match self {
            Self::F16(array) => is_aligned(array),
            Self::BF16(array) => is_aligned(array),
            Self::F32(array) => is_aligned(array),
            Self::F64(array) => is_aligned(array),
        }
    }

    /// The elements, for reading without the interpreter.
    pub(super) fn data(&self) -> PyResult<Data<'_>> {
        Ok(match self {
            Self::F16(a) => Data::F16(View::of(a)),
            Self::BF16(a) => Data::BF16(View::Slice(a.as_slice()?.reinterpret_cast())),
            Self::F32(a) => Data::F32(View::of(a)),
            Self::F64(a) => Data::F64(View::of(a)),
        })
    }

    /// The elements with their channels along an axis.
    pub(super) fn by_channel(&self, axis: i64) -> Result<ByChannel<'_>> {
        let (values, shape) = match self {
            Self::F16(a) => lay_out(a, axis, Contiguous::F16),
            Self::BF16(a) => lay_out(a, axis, Contiguous::BF16),
            Self::F32(a) => lay_out(a, axis, Contiguous::F32),
            Self::F64(a) => lay_out(a, axis, Contiguous::F64),
        }?;
        Ok(ByChannel { values, shape })
    }
}

/// The elements of an array, in an order in which the channels are known.
pub(super) struct ByChannel<'a> {
    values: Contiguous<'a>,
    shape: Shape,
}

enum Contiguous<'a> {
    F16(Cow<'a, [f16]>),
    BF16(Cow<'a, [u16]>),
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
}

impl ByChannel<'_> {
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Records all elements.
    pub(super) fn observe(&self, stats: &mut ChannelStats) -> Result<()> {
        match &self.values {
            Contiguous::F16(values) => stats.observe(values, self.shape),
            Contiguous::BF16(bits) => stats.observe::<bf16>(bits.reinterpret_cast(), self.shape),
            Contiguous::F32(values) => stats.observe(values, self.shape),
            Contiguous::F64(values) => stats.observe(values, self.shape),
        }
    }

    /// Records all elements, or defers that.
    pub(super) fn defer(&self, deferred: &mut DeferredStats) -> Result<()> {
        match &self.values {
            Contiguous::F16(values) => deferred.defer(values, self.shape),
            Contiguous::BF16(bits) => deferred.defer::<bf16>(bits.reinterpret_cast(), self.shape),
            Contiguous::F32(values) => deferred.defer(values, self.shape),
            Contiguous::F64(values) => deferred.defer(values, self.shape),
        }
    }

    /// The channels with NaN or infinities.
    pub(super) fn non_finite(&self) -> Option<NonFiniteChannels> {
        match &self.values {
            Contiguous::F16(values) => ChannelStats::non_finite(values, self.shape),
            Contiguous::BF16(bits) => {
                ChannelStats::non_finite::<bf16>(bits.reinterpret_cast(), self.shape)
            }
            Contiguous::F32(values) => ChannelStats::non_finite(values, self.shape),
            Contiguous::F64(values) => ChannelStats::non_finite(values, self.shape),
        }
    }
}

/// The elements with the axes ordered from the longest stride to the shortest. The order inside a
/// channel does not matter, so transposed arrays need no copy. Arrays with gaps are copied.
fn lay_out<'a, T: NumpyElement + Copy>(
    array: &'a PyReadonlyArrayDyn<'_, T>,
    axis: i64,
    wrap: fn(Cow<'a, [T]>) -> Contiguous<'a>,
) -> Result<(Contiguous<'a>, Shape)> {
    let view: ArrayViewD<'a, T> = array.as_array();
    Shape::along(view.shape(), axis)?; // refuses an axis as given, before axes are reordered
    let at = axis.rem_euclid(view.ndim() as i64) as usize;
    let mut order: Vec<usize> = (0..view.ndim()).collect();
    order.sort_by_key(|&axis| std::cmp::Reverse(view.strides()[axis].unsigned_abs()));
    let moved = order.iter().position(|&axis| axis == at).unwrap_or(at);
    let view = view.permuted_axes(order);
    let shape = Shape::along(view.shape(), moved as i64)?;
    let values = match view.to_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(view.iter().copied().collect()),
    };
    Ok((wrap(values), shape))
}

/// The elements of an array, for reading without the interpreter.
///
/// Another Python thread may write to the array at the same time. A value that is read while it is
/// written may be miscounted, but nothing else can happen: every bit pattern has a bin or a
/// counter.
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

    /// Adds all elements as one observation.
    pub(super) fn observe(&self, recorder: &mut BufferedStats) {
        match self {
            Self::F32(View::Slice(values)) => recorder.observe(values),
            _ => recorder.observe_with(|histogram| self.record(histogram)),
        }
    }

    /// Records all elements; returns the finite minimum and maximum.
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
        // Any contiguous layout is accepted, since the order of the elements does not matter.
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
                let mut extremes: Option<(f32, f32)> = None;
                gather(array.view(), &mut |run: &[T]| {
                    let found = histogram.record(run);
                    extremes = match (extremes, found) {
                        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                        (a, b) => a.or(b),
                    };
                });
                extremes
            }
        }
    }
}

/// Calls `work` with all elements of an array that has gaps, in runs of up to [`GATHER`]. Rows
/// along the axis of the shortest stride are copied one by one, which is the order of memory.
fn gather<T: Copy>(array: ArrayViewD<'_, T>, work: &mut dyn FnMut(&[T])) {
    let mut order: Vec<usize> = (0..array.ndim()).collect();
    // Axes of one element have arbitrary strides; they come first.
    order.sort_by_key(|&axis| {
        (array.len_of(Axis(axis)) > 1, Reverse(array.strides()[axis].unsigned_abs()))
    });
    let array = array.permuted_axes(order);
    let Some(&any) = array.first() else { return work(&[]) };
    let mut gathered = vec![any; array.len().min(GATHER)];
    let mut filled = 0;
    for row in array.rows() {
        match row.to_slice() {
            Some(row) if row.len() >= GATHER => work(row),
            _ => {
                for piece in row.axis_chunks_iter(Axis(0), GATHER) {
                    if filled + piece.len() > GATHER {
                        work(&gathered[..filled]);
                        filled = 0;
                    }
                    let end = filled + piece.len();
                    ArrayViewMut1::from(&mut gathered[filled..end]).assign(&piece);
                    filled = end;
                }
            }
        }
    }
    work(&gathered[..filled]);
}
