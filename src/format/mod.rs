//! Integer grids: from a real range to scale and zero point, and from values to codes and back.

mod blocks;
mod float;
mod quantize;

pub use blocks::{BlockFormat, BlockStatistics};
pub use float::FloatFormat;

use crate::error::{Error, Result};

/// The real interval that is to be represented without clipping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// lower end, α
    pub low: f64,
    /// upper end, β
    pub high: f64,
}

impl Range {
    /// The range from −`t` to `t`.
    pub fn symmetric(t: f64) -> Self {
        Self { low: -t, high: t }
    }

    /// The larger magnitude of the two ends.
    pub fn abs_max(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }
}

/// An integer format: how many bits, and whether codes are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantFormat {
    bits: u32, // in [2, 16]
    signed: bool,
}

impl QuantFormat {
    /// Signed 8 bits: codes −128…127.
    pub const INT8: Self = Self { bits: 8, signed: true };
    /// Unsigned 8 bits: codes 0…255.
    pub const UINT8: Self = Self { bits: 8, signed: false };
    /// All formats, by name.
    pub const ALL: [(&'static str, Self); 2] = [("int8", Self::INT8), ("uint8", Self::UINT8)];

    /// The format of that name.
    ///
    /// # Errors
    /// [`Error::Format`], which lists the known names.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|&(_, format)| format).ok_or_else(|| Error::Format(name.to_owned()))
    }

    /// Bits of a code.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Lowest code.
    pub fn qmin(self) -> i32 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// Highest code.
    pub fn qmax(self) -> i32 {
        self.qmin() + (1 << self.bits) - 1
    }

    /// Steps from zero to the end of a symmetric range: 2^(bits−1) − 1, 127 for 8 bits.
    pub fn symmetric_steps(self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// The zero point of symmetric scaling: 0, or the middle code where codes are unsigned.
    pub fn symmetric_zero_point(self) -> i32 {
        if self.signed { 0 } else { 1 << (self.bits - 1) }
    }

    /// The grid that represents `range`.
    ///
    /// Symmetric: scale = max(|low|, |high|) / (2^(bits−1) − 1). Affine: the range is first widened
    /// to contain 0; scale = (high − low) / (2^bits − 1), and the zero point is the nearest code, so
    /// that 0 is represented exactly.
    ///
    /// The scale is always finite and positive: 1 for a range of [0, 0], and never below the
    /// smallest normal `f32`, whose reciprocal and products are well defined everywhere.
    pub fn grid(self, range: Range, symmetric: bool) -> Grid {
        if symmetric {
            let scale = usable(range.abs_max() / f64::from(self.symmetric_steps()));
            return Grid { format: self, scale, zero_point: self.symmetric_zero_point() };
        }
        let (low, high) = (range.low.min(0.0), range.high.max(0.0));
        let scale = usable((high - low) / f64::from(self.qmax() - self.qmin()));
        let zero_point = f64::from(self.qmin()) - low / f64::from(scale);
        let zero_point = (zero_point.round_ties_even() as i32).clamp(self.qmin(), self.qmax());
        Grid { format: self, scale, zero_point }
    }
}

/// A finite positive `f32` as near to the wanted scale as that allows.
fn usable(scale: f64) -> f32 {
    if scale == 0.0 || scale.is_nan() {
        return 1.0;
    }
    (scale as f32).clamp(f32::MIN_POSITIVE, f32::MAX)
}

/// A format with its scale and zero point: real = (code − zero point) · scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    format: QuantFormat,
    scale: f32,      // finite, positive
    zero_point: i32, // a code of the format
}

impl Grid {
    /// A grid of given parameters.
    ///
    /// # Errors
    /// [`Error::Scale`] unless finite and positive; [`Error::ZeroPoint`] unless a code.
    pub fn new(format: QuantFormat, scale: f32, zero_point: i32) -> Result<Self> {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::Scale(scale));
        }
        let (qmin, qmax) = (format.qmin(), format.qmax());
        if !(qmin..=qmax).contains(&zero_point) {
            return Err(Error::ZeroPoint { zero_point, qmin, qmax });
        }
        Ok(Self { format, scale, zero_point })
    }

    /// The format.
    pub fn format(self) -> QuantFormat {
        self.format
    }

    /// The real distance of two codes.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// The code of zero.
    pub fn zero_point(self) -> i32 {
        self.zero_point
    }

    /// The real value of a code, before rounding to `f32`.
    pub fn value(self, code: i32) -> f64 {
        f64::from(code - self.zero_point) * f64::from(self.scale)
    }

    /// The range that the grid represents without clipping: from its lowest to its highest code,
    /// or as far to the left as to the right where scaling is symmetric.
    pub fn range(self, symmetric: bool) -> Range {
        if symmetric {
            return Range::symmetric(self.value(self.format.qmax()));
        }
        Range { low: self.value(self.format.qmin()), high: self.value(self.format.qmax()) }
    }
}
