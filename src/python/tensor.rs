//! `_core.TensorStats`: the statistics of one tensor.

use std::sync::Arc;

use pyo3::prelude::*;

use super::{
    arrays::Floats,
    histogram::{Histogram, IN_PLACE, new_histogram},
    scalars::Integer,
};
use crate::{
    BufferedStats, TensorStats as Core,
    fork::{Lock, Locked},
};

/// Histogram and per-observation extremes of one tensor.
#[pyclass(module = "quantcal._core", frozen)]
pub(super) struct TensorStats {
    state: Arc<Lock<BufferedStats>>, // shared with the operator that records a model's tensors
}

impl From<Core> for TensorStats {
    fn from(core: Core) -> Self {
        Self { state: Arc::new(Lock::new(core.into())) }
    }
}

impl TensorStats {
    fn lock(&self) -> Locked<'_, BufferedStats> {
        self.state.lock()
    }

    /// The state itself, for an operator that records into it.
    pub(super) fn share(&self) -> Arc<Lock<BufferedStats>> {
        Arc::clone(&self.state)
    }

    pub(super) fn snapshot(&self) -> Core {
        self.lock().settled().clone()
    }
}

#[pymethods]
impl TensorStats {
    #[new]
    #[pyo3(signature = (mantissa_bits = None))]
    fn new(mantissa_bits: Option<Integer>) -> PyResult<Self> {
        Ok(Core::new(new_histogram(mantissa_bits)?).into())
    }

    /// Statistics of one observation, given as a histogram.
    #[staticmethod]
    fn from_histogram(histogram: &Histogram) -> PyResult<Self> {
        let histogram = histogram.snapshot();
        let mut stats = Core::new(histogram.like());
        stats.include(histogram)?;
        Ok(stats.into())
    }

    /// Statistics from their parts.
    #[staticmethod]
    fn from_counts(
        histogram: &Histogram,
        observations: u64,
        minima: &Histogram,
        maxima: &Histogram,
    ) -> PyResult<Self> {
        let (minima, maxima) = (minima.snapshot(), maxima.snapshot());
        Ok(Core::from_counts(histogram.snapshot(), observations, minima, maxima)?.into())
    }

    /// Adds one observation. With `finite_only`, non-finite values are refused.
    #[pyo3(signature = (values, finite_only = false, /))]
    fn observe(&self, py: Python<'_>, values: Floats<'_>, finite_only: bool) -> PyResult<()> {
        let data = values.data()?;
        if data.len() < IN_PLACE && !finite_only {
            let mut state = self.lock();
            state.check_room(data.len() as u64, 1)?;
            data.observe(&mut state);
            return Ok(());
        }
        let mut part = self.lock().like();
        py.detach(|| data.record(&mut part));
        if finite_only {
            part.refuse_non_finite()?;
        }
        Ok(py.detach(|| self.lock().include(part))?)
    }

    #[pyo3(signature = (other, /))]
    fn merge(&self, other: &Self) -> PyResult<()> {
        let other = other.lock().clone();
        Ok(self.lock().merge(&other)?)
    }

    /// Checks that more values and observations can be counted.
    #[pyo3(signature = (values, observations, /))]
    fn check_room(&self, values: u64, observations: u64) -> PyResult<()> {
        Ok(self.lock().check_room(values, observations)?)
    }

    /// Exchanges the content of two statistics in O(1). An operator that records into one of them
    /// continues with the content of the other. So samples can be counted in two halves within one
    /// session, without a merge after each sample.
    #[pyo3(signature = (other, /))]
    fn swap(&self, other: &Self) {
        if Arc::ptr_eq(&self.state, &other.state) {
            return;
        }
        // Locked in the order of addresses, so that two exchanges cannot deadlock.
        let ours = Arc::as_ptr(&self.state) < Arc::as_ptr(&other.state);
        let (first, second) = if ours { (self, other) } else { (other, self) };
        std::mem::swap(&mut *first.lock(), &mut *second.lock());
    }

    fn copy(&self) -> Self {
        Self { state: Arc::new(Lock::new(self.lock().clone())) }
    }

    fn __eq__(&self, other: &Self) -> bool {
        let other = other.snapshot();
        *self.lock().settled() == other
    }

    #[getter]
    fn histogram(&self) -> Histogram {
        self.lock().settled().histogram.clone().into()
    }

    #[getter]
    fn minima(&self) -> Histogram {
        self.lock().settled().minima.clone().into()
    }

    #[getter]
    fn maxima(&self) -> Histogram {
        self.lock().settled().maxima.clone().into()
    }

    /// Number of elements.
    #[getter]
    fn count(&self) -> u64 {
        self.lock().count()
    }

    #[getter]
    fn observations(&self) -> u64 {
        self.lock().observations()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.lock().settled().memory()
    }
}
