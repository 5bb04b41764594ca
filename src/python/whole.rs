//! Whole numbers from Python, which has no limit to them.

use pyo3::{
    exceptions::{PyOverflowError, PyTypeError},
    prelude::*,
    types::PyBool,
};

use crate::error::{Error, Result};

/// Any Python integer, which True is not; those beyond 64 bits are taken for the largest.
#[derive(Clone, Copy)]
pub(super) struct Whole(i64);

impl<'py> FromPyObject<'_, 'py> for Whole {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number =
            if object.is_instance_of::<PyBool>() { None } else { Some(object.extract::<i64>()) };
        match number {
            Some(Ok(number)) => Ok(Self(number)),
            Some(Err(error)) if error.is_instance_of::<PyOverflowError>(object.py()) => {
                Ok(Self(if object.lt(0)? { i64::MIN } else { i64::MAX }))
            }
            _ => {
                let value = object.repr()?;
                Err(PyTypeError::new_err(format!("{value} is not a whole number")))
            }
        }
    }
}

impl Whole {
    /// The number, or the nearest of 64 bits.
    pub(super) fn clamped(self) -> i64 {
        self.0
    }

    /// The number as the engine has it, or the engine's error for numbers that its type lacks.
    pub(super) fn within<T: TryFrom<i64>>(self, error: fn(i64) -> Error) -> Result<T> {
        T::try_from(self.0).map_err(|_| error(self.0))
    }
}
