//! `_core.ChannelStats`: the statistics of one tensor by channel.

use numpy::{IntoPyArray, PyArray1};
use pyo3::{exceptions::PyIndexError, prelude::*};

use super::{
    arrays::{ByChannel, Floats},
    error::NonFiniteError,
    histogram::Histogram,
    scalars::Integer,
};
use crate::{
    ChannelStats as Core, DeferredStats, Error,
    fork::{Lock, Locked},
};

/// One histogram for each channel of a tensor.
#[pyclass(module = "quantcal._core", frozen, weakref)]
pub(super) struct ChannelStats {
    axis: Integer, // as given
    state: Lock<DeferredStats>,
}

impl From<Core> for ChannelStats {
    fn from(core: Core) -> Self {
        Self { axis: core.axis().into(), state: Lock::new(core.into()) }
    }
}

impl ChannelStats {
    /// Runs `work` on the state, without the interpreter.
    ///
    /// The lock is held while an array is recorded, because merging parts of thousands of channels
    /// would take longer than counting. So waiting for it must not block the interpreter.
    fn with<R: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Core) -> R + Send) -> R {
        py.detach(|| work(self.lock().settled()))
    }

    fn lock(&self) -> Locked<'_, DeferredStats> {
        self.state.lock()
    }

    pub(super) fn snapshot(&self, py: Python<'_>) -> Core {
        self.with(py, |state| state.clone())
    }

    /// The minimum or the maximum of every channel; NaN without finite values.
    fn extremes<'py>(
        &self,
        py: Python<'py>,
        end: fn(&crate::Histogram) -> Option<f32>,
    ) -> Bound<'py, PyArray1<f32>> {
        let ends: Vec<f32> = self.with(py, |state| {
            state.channels().iter().map(|h| end(h).unwrap_or(f32::NAN)).collect()
        });
        ends.into_pyarray(py)
    }
}

#[pymethods]
impl ChannelStats {
    #[new]
    #[pyo3(signature = (axis, mantissa_bits = None))]
    fn new(axis: Integer, mantissa_bits: Option<Integer>) -> PyResult<Self> {
        let mantissa_bits = match mantissa_bits {
            None => Core::MANTISSA_BITS,
            Some(bits) => bits.within(Error::MantissaBits)?,
        };
        let core = Core::new(axis.clamped(), mantissa_bits)?;
        Ok(Self { axis, ..core.into() })
    }

    /// Statistics from the histograms of all channels.
    #[staticmethod]
    fn from_counts(
        axis: Integer,
        channels: Vec<PyRef<'_, Histogram>>,
        observations: u64,
    ) -> PyResult<Self> {
        let channels = channels.iter().map(|h| h.snapshot()).collect();
        Ok(Core::from_counts(axis.clamped(), channels, observations)?.into())
    }

    /// Adds one observation. With `finite_only`, non-finite values are refused. With `defer`,
    /// counting a small first observation is deferred until it is merged.
    #[pyo3(signature = (values, finite_only = false, /, *, defer = false))]
    fn observe(
        &self,
        py: Python<'_>,
        values: Floats<'_>,
        finite_only: bool,
        defer: bool,
    ) -> PyResult<()> {
        let data: ByChannel<'_> = self.axis.checked(values.by_channel(self.axis.clamped()))?;
        if finite_only && let Some(found) = py.detach(|| data.non_finite()) {
            let h = &found.histogram;
            return Err(NonFiniteError::new_err(format!(
                "channel {} has {} NaN, {} +inf and {} -inf among {} values ({} of {} channels \
                 are affected)",
                found.channel,
                h.nan(),
                h.posinf(),
                h.neginf(),
                h.count(),
                found.channels,
                data.shape().channels,
            )));
        }
        Ok(py.detach(|| {
            let mut state = self.lock();
            if defer { data.defer(&mut state) } else { data.observe(state.settled()) }
        })?)
    }

    #[pyo3(signature = (other, /))]
    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        let other = py.detach(|| other.lock().clone());
        Ok(py.detach(|| self.lock().merge(other))?)
    }

    /// Raises the errors of `merge`.
    #[pyo3(signature = (axis, channels, /))]
    fn check(&self, py: Python<'_>, axis: Integer, channels: usize) -> PyResult<()> {
        Ok(py.detach(|| self.lock().check(axis.clamped(), channels))?)
    }

    /// Checks that more values and observations can be counted.
    #[pyo3(signature = (values, observations, /))]
    fn check_room(&self, py: Python<'_>, values: u64, observations: u64) -> PyResult<()> {
        Ok(py.detach(|| self.lock().check_room(values, observations))?)
    }

    fn copy(&self, py: Python<'_>) -> Self {
        let state = py.detach(|| self.lock().clone());
        Self { axis: self.axis.clone(), state: Lock::new(state) }
    }

    fn __eq__(&self, py: Python<'_>, other: &Self) -> bool {
        let other = other.snapshot(py);
        self.with(py, |state| *state == other)
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().len())
    }

    /// A copy of one channel's histogram.
    #[pyo3(signature = (channel, /))]
    fn channel(&self, py: Python<'_>, channel: usize) -> PyResult<Histogram> {
        let found = self.with(py, |state| state.channels().get(channel).cloned());
        let found = found.ok_or_else(|| PyIndexError::new_err(format!("no channel {channel}")))?;
        Ok(found.into())
    }

    /// The histogram of all channels together.
    #[getter]
    fn histogram(&self, py: Python<'_>) -> Histogram {
        self.with(py, |state| state.total()).into()
    }

    #[getter]
    fn min<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.extremes(py, crate::Histogram::min)
    }

    #[getter]
    fn max<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.extremes(py, crate::Histogram::max)
    }

    #[getter]
    fn axis(&self) -> i64 {
        self.axis.clamped()
    }

    /// Number of elements of all channels.
    #[getter]
    fn count(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().count())
    }

    #[getter]
    fn observations(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().observations())
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> usize {
        self.with(py, |state| state.memory())
    }
}
