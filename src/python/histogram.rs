//! The class `quantcal.Histogram`.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyType},
};

use super::{arrays::Floats, scalars::Integer, scalars::Real};
use crate::{
    Density, Error, Histogram as Core,
    error::short,
    fork::{Lock, Locked},
    histogram::{Moments, RawCounts},
    simd::with_denormals,
};

/// Elements below which an array is recorded in place. For so few, a partial histogram would take
/// longer than waiting for the lock.
pub(super) const IN_PLACE: usize = 1 << 15;

/// Exact counts of one tensor's values over float codes.
#[pyclass(module = "quantcal", frozen, weakref)]
pub(super) struct Histogram {
    state: Lock<Core>,
}

impl From<Core> for Histogram {
    fn from(core: Core) -> Self {
        Self { state: Lock::new(core) }
    }
}

impl Histogram {
    /// The state. The lock is held for microseconds, and its holder never waits for the
    /// interpreter.
    fn lock(&self) -> Locked<'_, Core> {
        self.state.lock()
    }

    /// A copy of the state, for work without the lock.
    pub(super) fn snapshot(&self) -> Core {
        self.lock().clone()
    }

    fn moments(&self, py: Python<'_>) -> Option<Moments> {
        let state = self.snapshot();
        (state.finite() > 0).then(|| py.detach(|| state.moments()))
    }
}

/// An empty histogram. `None` lets the resolution follow the element types.
pub(super) fn new_histogram(mantissa_bits: Option<Integer>) -> PyResult<Core> {
    Ok(match mantissa_bits {
        None => Core::new(),
        Some(bits) => Core::with_mantissa_bits(bits.within(Error::MantissaBits)?)?,
    })
}

type Bins<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<u64>>);
type Uniform<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<f64>>);

#[pymethods]
impl Histogram {
    #[new]
    #[pyo3(signature = (mantissa_bits = None))]
    fn new(mantissa_bits: Option<Integer>) -> PyResult<Self> {
        Ok(new_histogram(mantissa_bits)?.into())
    }

    #[pyo3(signature = (values, /))]
    fn observe<'py>(slf: Bound<'py, Self>, values: Floats<'py>) -> PyResult<Bound<'py, Self>> {
        let (py, this) = (slf.py(), slf.get());
        let data = values.data()?;
        if data.len() < IN_PLACE {
            let mut state = this.lock();
            state.check_room(data.len() as u64)?;
            data.record(&mut state);
        } else {
            let mut part = this.lock().like();
            py.detach(|| {
                data.record(&mut part);
                this.lock().merge(&part)
            })?;
        }
        Ok(slf)
    }

    #[pyo3(signature = (other, /))]
    fn merge(&self, other: &Self) -> PyResult<()> {
        let other = other.snapshot(); // first, so that merging with itself does not lock twice
        Ok(self.lock().merge(&other)?)
    }

    fn __add__(&self, other: &Self) -> PyResult<Self> {
        let mut sum = self.snapshot();
        sum.merge(&other.snapshot())?;
        Ok(sum.into())
    }

    /// `0 + h`, so that `sum(histograms)` works without a start value.
    fn __radd__<'py>(slf: Bound<'py, Self>, other: &Bound<'py, PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if other.extract::<i64>().is_ok_and(|zero| zero == 0) {
            return Ok(Py::new(py, Self::from(slf.get().snapshot()))?.into_any());
        }
        Ok(py.NotImplemented())
    }

    fn __eq__(&self, other: &Self) -> bool {
        let other = other.snapshot();
        *self.lock() == other
    }

    fn coarsen(&self, mantissa_bits: Integer) -> PyResult<Self> {
        Ok(self.snapshot().coarsen(mantissa_bits.within(Error::MantissaBits)?)?.into())
    }

    fn crop(&self, low: Real, high: Real) -> PyResult<Self> {
        Ok(self.snapshot().crop(low.0, high.0)?.into())
    }

    #[getter]
    fn mantissa_bits(&self) -> Option<u32> {
        self.lock().mantissa_bits()
    }

    #[getter]
    fn exact(&self) -> bool {
        self.lock().is_exact()
    }

    #[getter]
    fn count(&self) -> u64 {
        self.lock().count()
    }

    #[getter]
    fn finite(&self) -> u64 {
        self.lock().finite()
    }

    #[getter]
    fn zeros(&self) -> u64 {
        self.lock().zeros()
    }

    #[getter]
    fn nan(&self) -> u64 {
        self.lock().nan()
    }

    #[getter]
    fn posinf(&self) -> u64 {
        self.lock().posinf()
    }

    #[getter]
    fn neginf(&self) -> u64 {
        self.lock().neginf()
    }

    #[getter]
    fn min(&self) -> Option<f64> {
        let state = self.lock();
        with_denormals(|| state.min().map(f64::from))
    }

    #[getter]
    fn max(&self) -> Option<f64> {
        let state = self.lock();
        with_denormals(|| state.max().map(f64::from))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.lock().memory()
    }

    fn quantile(&self, py: Python<'_>, q: Real) -> PyResult<Option<f64>> {
        let state = self.snapshot();
        Ok(py.detach(|| state.quantile(q.0))?)
    }

    fn abs_quantile(&self, py: Python<'_>, q: Real) -> PyResult<Option<f64>> {
        let state = self.snapshot();
        Ok(py.detach(|| state.abs_quantile(q.0))?)
    }

    fn mean(&self, py: Python<'_>) -> Option<f64> {
        self.moments(py).map(|m| m.mean)
    }

    fn std(&self, py: Python<'_>) -> Option<f64> {
        self.moments(py).map(|m| m.std)
    }

    fn mean_abs_deviation(&self, py: Python<'_>) -> Option<f64> {
        self.moments(py).map(|m| m.mean_abs_deviation)
    }

    fn kurtosis(&self, py: Python<'_>) -> Option<f64> {
        self.moments(py).map(|m| m.kurtosis)
    }

    fn bins<'py>(&self, py: Python<'py>) -> Bins<'py> {
        let state = self.snapshot();
        let density = py.detach(|| Density::new(&state));
        let segments = || density.segments().iter();
        (
            segments().map(|s| s.low).collect::<Vec<_>>().into_pyarray(py),
            segments().map(|s| s.high).collect::<Vec<_>>().into_pyarray(py),
            segments().map(|s| s.count).collect::<Vec<_>>().into_pyarray(py),
        )
    }

    fn rebin<'py>(
        &self,
        py: Python<'py>,
        num_bins: Integer,
        low: Real,
        high: Real,
    ) -> PyResult<Uniform<'py>> {
        let (low, high) = (low.0, high.0);
        let num_bins = num_bins.within(Error::NumBins)?;
        let state = self.snapshot();
        let counts = py.detach(|| state.rebin(num_bins, low, high))?;
        let edges: Vec<f64> =
            (0..=num_bins).map(|i| crate::histogram::edge(i, num_bins, low, high)).collect();
        Ok((counts.into_pyarray(py), edges.into_pyarray(py)))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let state = self.snapshot();
        PyBytes::new(py, &py.detach(|| state.to_bytes()))
    }

    #[classmethod]
    fn from_bytes(_cls: &Bound<'_, PyType>, py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        Ok(py.detach(|| Core::from_bytes(data))?.into())
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let from_bytes = slf.get_type().getattr("from_bytes")?;
        Ok((from_bytes, (slf.get().to_bytes(slf.py()),)))
    }

    fn __repr__(&self) -> String {
        let state = self.lock();
        let mut parts = vec![format!("count={}", state.count())];
        if let (Some(min), Some(max)) = (state.min(), state.max()) {
            parts.push(format!("min={}, max={}", short(min), short(max)));
        }
        let non_finite =
            [("nan", state.nan()), ("posinf", state.posinf()), ("neginf", state.neginf())];
        let non_finite = non_finite.iter().filter(|(_, count)| *count > 0);
        parts.extend(non_finite.map(|(name, count)| format!("{name}={count}")));
        parts.extend(state.mantissa_bits().map(|m| format!("mantissa_bits={m}")));
        format!("Histogram({})", parts.join(", "))
    }
}

/// A histogram from plain counts. `specials` are the numbers of zeros, NaN, +inf and −inf.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // Python passes the parts one by one
#[pyo3(signature = (mantissa_bits, codes, counts, specials, extremes, *, exact, fixed))]
pub(super) fn histogram_from_counts(
    py: Python<'_>,
    mantissa_bits: Integer,
    codes: PyReadonlyArray1<'_, u64>,
    counts: PyReadonlyArray1<'_, u64>,
    specials: [u64; 4],
    extremes: Option<(f32, f32)>,
    exact: bool,
    fixed: bool,
) -> PyResult<Histogram> {
    let (codes, counts) = (codes.as_slice()?, counts.as_slice()?);
    if codes.len() != counts.len() {
        return Err(Error::Counts("there must be a count for each code").into());
    }
    let [zeros, nan, posinf, neginf] = specials;
    let counts = RawCounts {
        mantissa_bits: mantissa_bits.within(Error::MantissaBits)?,
        fixed,
        exact,
        zeros,
        nan,
        posinf,
        neginf,
        extremes,
        bins: codes.iter().copied().zip(counts.iter().copied()).collect(),
    };
    Ok(py.detach(|| Core::from_counts(&counts))?.into())
}
