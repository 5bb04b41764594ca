//! `_core.TensorStats`: what a calibrator keeps of one tensor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::{
    arrays::Floats,
    histogram::{Histogram, IN_PLACE, empty},
    whole::Whole,
};
use crate::{Recorder, TensorStats as Core};

/// Histogram and per-observation extremes of one tensor.
#[pyclass(module = "quantcal._core", frozen)]
pub(super) struct TensorStats {
    state: Arc<Mutex<Recorder>>, // shared with the operator that records a model's tensors
}

impl From<Core> for TensorStats {
    fn from(core: Core) -> Self {
        Self { state: Arc::new(Mutex::new(core.into())) }
    }
}

impl TensorStats {
    fn lock(&self) -> MutexGuard<'_, Recorder> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state itself, for a recorder elsewhere.
    pub(super) fn share(&self) -> Arc<Mutex<Recorder>> {
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
    fn new(mantissa_bits: Option<Whole>) -> PyResult<Self> {
        Ok(Core::new(empty(mantissa_bits)?).into())
    }

    /// A histogram taken for one observation.
    #[staticmethod]
    fn from_histogram(histogram: &Histogram) -> Self {
        let histogram = histogram.snapshot();
        let mut stats = Core::new(histogram.like());
        stats.include(histogram);
        stats.into()
    }

    /// Statistics that were made elsewhere.
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

    /// Adds one observation, unless `finite_only` and some value is not finite.
    #[pyo3(signature = (values, finite_only = false, /))]
    fn observe(&self, py: Python<'_>, values: Floats<'_>, finite_only: bool) -> PyResult<()> {
        let data = values.data()?;
        if data.len() < IN_PLACE && !finite_only {
            data.observe(&mut self.lock());
            return Ok(());
        }
        let mut part = self.lock().like();
        py.detach(|| data.record(&mut part));
        if finite_only {
            part.refuse_non_finite()?;
        }
        py.detach(|| self.lock().include(part));
        Ok(())
    }

    #[pyo3(signature = (other, /))]
    fn merge(&self, other: &Self) {
        let other = other.lock().clone();
        self.lock().merge(&other);
    }

    /// Exchanges what two of them hold: an operator that records into one goes on with the other's.
    #[pyo3(signature = (other, /))]
    fn swap(&self, other: &Self) {
        if Arc::ptr_eq(&self.state, &other.state) {
            return;
        }
        // Locked in the order of addresses, so that two exchanges cannot wait for each other.
        let ours = Arc::as_ptr(&self.state) < Arc::as_ptr(&other.state);
        let (first, second) = if ours { (self, other) } else { (other, self) };
        std::mem::swap(&mut *first.lock(), &mut *second.lock());
    }

    fn copy(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.lock().clone())) }
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

    #[getter]
    fn observations(&self) -> u64 {
        self.lock().observations()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.lock().settled().memory()
    }
}
