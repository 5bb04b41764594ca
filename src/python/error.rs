//! The engine's errors as Python exceptions.

use pyo3::{PyErr, create_exception, exceptions::PyValueError};

create_exception!(
    quantcal,
    CalibrationError,
    PyValueError,
    "Data, a name, a format or a file that quantcal cannot use. The message says what to do."
);

create_exception!(
    quantcal,
    NonFiniteError,
    CalibrationError,
    "An array with NaN or infinities where only finite values are accepted."
);

impl From<crate::Error> for PyErr {
    fn from(error: crate::Error) -> Self {
        if matches!(error, crate::Error::NonFinite { .. }) {
            return NonFiniteError::new_err(error.to_string());
        }
        CalibrationError::new_err(error.to_string())
    }
}
