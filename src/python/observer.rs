//! `_core.Taps`: where the operators of a session find the statistics of its tensors.

use pyo3::prelude::*;

use super::tensor::TensorStats;
use crate::operators::{Tap, Taps as Core};

/// Statistics for the `quantcal::Observe` nodes of a session that will be opened.
#[pyclass(module = "quantcal._core", frozen)]
pub(super) struct Taps {
    core: Core,
}

#[pymethods]
impl Taps {
    #[new]
    #[pyo3(signature = (tensors, /, *, finite_only = false))]
    fn new(tensors: Vec<(String, Bound<'_, TensorStats>)>, finite_only: bool) -> Self {
        let taps = tensors
            .into_iter()
            .map(|(name, stats)| Tap::new(name, stats.get().share(), finite_only));
        Self { core: Core::new(taps) }
    }

    #[getter]
    fn number(&self) -> i64 {
        self.core.number()
    }
}
