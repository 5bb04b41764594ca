//! Where the channels of an array lie in memory.

use crate::error::{Error, Result};

/// Where channels lie in contiguous data: element (o, c, i) is at (o · channels + c) · inner + i.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// product of the sizes before the axis
    pub outer: usize,
    /// size of the axis
    pub channels: usize,
    /// product of the sizes after the axis
    pub inner: usize,
}

impl Shape {
    /// The channels along `axis` of a row-major array. A negative axis counts from the end.
    ///
    /// # Errors
    /// [`Error::AxisRange`] for an axis that the array does not have; [`Error::NoChannels`] if its
    /// size is 0.
    pub fn along(sizes: &[usize], axis: i64) -> Result<Self> {
        let rank = sizes.len() as i64;
        if !(-rank..rank).contains(&axis) {
            return Err(Error::AxisRange { axis, shape: sizes.to_vec() });
        }
        let at = axis.rem_euclid(rank) as usize;
        if sizes[at] == 0 {
            return Err(Error::NoChannels { axis, shape: sizes.to_vec() });
        }
        Ok(Self {
            outer: sizes[..at].iter().product(),
            channels: sizes[at],
            inner: sizes[at + 1..].iter().product(),
        })
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.outer * self.channels * self.inner
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}
