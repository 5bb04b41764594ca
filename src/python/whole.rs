//! Whole numbers from Python, which has no limit to them.

use pyo3::{
    exceptions::{PyOverflowError, PyTypeError},
    prelude::*,
    types::PyBool,
};

use super::{error::CalibrationError, real::shown};
use crate::{
    error::{Error, Result},
    shape::Shape,
};

/// Any Python integer, which True is not. One beyond 64 bits is never right, but errors show it as it was
/// given.
#[derive(Clone)]
pub(super) struct Whole {
    number: i64,           // the nearest of 64 bits
    given: Option<String>, // one beyond them
}

impl From<i64> for Whole {
    fn from(number: i64) -> Self {
        Self { number, given: None }
    }
}

impl<'py> FromPyObject<'_, 'py> for Whole {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number =
            if object.is_instance_of::<PyBool>() { None } else { Some(object.extract::<i64>()) };
        match number {
            Some(Ok(number)) => Ok(number.into()),
            Some(Err(error)) if error.is_instance_of::<PyOverflowError>(object.py()) => {
                let number = if object.lt(0)? { i64::MIN } else { i64::MAX };
                Ok(Self { number, given: Some(beyond(object)?) })
            }
            _ => Err(PyTypeError::new_err(format!("{} is not a whole number", shown(&object)?))),
        }
    }
}

/// A number beyond 64 bits as text; Python itself refuses to write the digits of very long ones.
fn beyond(object: Borrowed<'_, '_, PyAny>) -> PyResult<String> {
    let whole = object.call_method0("__index__")?; // an integer of another library is written otherwise
    let bits: u64 = whole.call_method0("bit_length")?.extract()?;
    if bits > 256 {
        let sign = if whole.lt(0)? { "a negative" } else { "a" };
        return Ok(format!("{sign} number of {bits} bits"));
    }
    Ok(whole.str()?.to_string())
}

impl Whole {
    /// The number, or the nearest of 64 bits.
    pub(super) fn clamped(&self) -> i64 {
        self.number
    }

    /// The number as the engine has it, or the engine's error for numbers that its type lacks.
    pub(super) fn within<T: TryFrom<i64>>(&self, error: fn(i64) -> Error) -> PyResult<T> {
        let number = if self.given.is_none() { T::try_from(self.number).ok() } else { None };
        number.ok_or_else(|| self.refused(error(self.number)))
    }

    /// The same where any large number will do.
    pub(super) fn nearest<T: TryFrom<i64>>(&self, error: fn(i64) -> Error) -> PyResult<T> {
        T::try_from(self.number).map_err(|_| self.refused(error(self.number)))
    }

    /// The channels along this axis.
    pub(super) fn along(&self, sizes: &[usize]) -> PyResult<Shape> {
        self.checked(Shape::along(sizes, self.number))
    }

    /// The result, or an error that shows the number as it was given.
    pub(super) fn checked<T>(&self, result: Result<T>) -> PyResult<T> {
        result.map_err(|error| self.refused(error))
    }

    fn refused(&self, error: Error) -> PyErr {
        match &self.given {
            None => error.into(),
            Some(given) => {
                let text = error.to_string().replacen(&self.number.to_string(), given, 1);
                CalibrationError::new_err(text)
            }
        }
    }
}
