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
        let value: String = object.repr()?.to_string().chars().take(SHOWN).collect();
        Err(PyTypeError::new_err(format!("{value} is not a number")))
    }
}
