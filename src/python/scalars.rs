//! Numbers from Python: floats, and integers, which have no limit there.

use pyo3::{
    exceptions::{PyOverflowError, PyTypeError},
    prelude::*,
    types::PyBool,
};

use super::error::CalibrationError;
use crate::{
    error::{Error, Result},
    shape::Shape,
};

/// Most characters of a value that an error message shows.
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

/// A value as an error message shows it.
pub(super) fn shown(object: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(object.repr()?.to_string().chars().take(SHOWN).collect())
}

/// Any Python integer except `True` and `False`. An integer beyond 64 bits is never valid, but
/// errors show it as given.
#[derive(Clone)]
pub(super) struct Integer {
    number: i64,           // limited to 64 bits
    given: Option<String>, // the text of an integer beyond 64 bits
}

impl From<i64> for Integer {
    fn from(number: i64) -> Self {
        Self { number, given: None }
    }
}

impl<'py> FromPyObject<'_, 'py> for Integer {
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

/// An integer beyond 64 bits as text. Python refuses to write the digits of very long ones.
fn beyond(object: Borrowed<'_, '_, PyAny>) -> PyResult<String> {
    let integer = object.call_method0("__index__")?; // other libraries write integers differently
    let bits: u64 = integer.call_method0("bit_length")?.extract()?;
    if bits > 256 {
        let sign = if integer.lt(0)? { "a negative" } else { "a" };
        return Ok(format!("{sign} number of {bits} bits"));
    }
    Ok(integer.str()?.to_string())
}

impl Integer {
    /// The number, limited to 64 bits.
    pub(super) fn clamped(&self) -> i64 {
        self.number
    }

    /// The number as the type that the engine needs, or the engine's error if it does not fit.
    pub(super) fn within<T: TryFrom<i64>>(&self, error: fn(i64) -> Error) -> PyResult<T> {
        let number = if self.given.is_none() { T::try_from(self.number).ok() } else { None };
        number.ok_or_else(|| self.refused(error(self.number)))
    }

    /// The same where all numbers beyond 64 bits mean the largest one.
    pub(super) fn limited<T: TryFrom<i64>>(&self, error: fn(i64) -> Error) -> PyResult<T> {
        T::try_from(self.number).map_err(|_| self.refused(error(self.number)))
    }

    /// The channels along this axis.
    pub(super) fn along(&self, sizes: &[usize]) -> PyResult<Shape> {
        self.checked(Shape::along(sizes, self.number))
    }

    /// The result, or an error that shows the number as given.
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
