//! Numbers from Python, told by their value when they are none.

use pyo3::{exceptions::PyTypeError, prelude::*};

/// Characters of a value that an error shows.
const SHOWN: usize = 80;

/// Anything that Python converts to a float.
#[derive(Clone, Copy)]
pub(super) struct Real(pub(super) f64);

impl<'py> FromPyObject<'_, 'py> for Real {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(number) = object.extract::<f64>() {
            return Ok(Self(number));
        }
        Err(PyTypeError::new_err(format!("{} is not a number", shown(&object)?)))
    }
}

/// A value as an error shows it.
pub(super) fn shown(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.repr()?.to_string().chars().take(SHOWN).collect())
}
