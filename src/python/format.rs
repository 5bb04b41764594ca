//! From `quantcal.QuantFormat` to the format and scaling of the engine.

use pyo3::prelude::*;

use crate::{QuantFormat, Result, Scaling};

/// Any object with these attributes.
#[derive(FromPyObject)]
pub(super) struct Format {
    name: String,
    symmetric: bool,
    power_of_two: bool,
}

impl Format {
    pub(super) fn resolve(&self) -> Result<(QuantFormat, Scaling)> {
        let Self { ref name, symmetric, power_of_two } = *self;
        Ok((QuantFormat::parse(name)?, Scaling { symmetric, power_of_two }))
    }
}

/// Names of all formats.
#[pyfunction]
pub(super) fn format_names() -> Vec<String> {
    QuantFormat::all().map(QuantFormat::name).collect()
}
