//! The engine's errors as Python exceptions.

use pyo3::{PyErr, create_exception, exceptions::PyValueError};

create_exception!(
    quantcal,
    CalibrationError,
    PyValueError,
    "Data, a name, a format or a file that quantcal cannot use; the text says what to do."
);

impl From<crate::Error> for PyErr {
    fn from(error: crate::Error) -> Self {
        CalibrationError::new_err(error.to_string())
    }
}
