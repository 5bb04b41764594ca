//! Formats and grids: from a real range to scale and zero point, from values to codes and back.

mod blocks;
mod channel_grids;
mod float;
mod grid;
mod quantize;

pub use blocks::{BlockFormat, BlockStatistics};
pub use channel_grids::ChannelGrids;
pub use float::FloatFormat;
pub use grid::Grid;
pub use quantize::Code;
pub(crate) use quantize::{between, round_half_even};

use crate::error::{Error, Result};

/// The real interval to represent without clipping.
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

    /// The larger magnitude of both ends.
    pub fn abs_max(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }
}

/// How a range becomes a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scaling {
    /// whether zero is in the middle of the range, so that signed codes need no zero point;
    /// otherwise scaling is affine
    pub symmetric: bool,
    /// whether the scale is a power of two, so that scaling is a shift
    pub power_of_two: bool,
}

impl Scaling {
    /// The range reaches as far below zero as above.
    pub const SYMMETRIC: Self = Self { symmetric: true, power_of_two: false };
    /// The range has two independent ends, and the grid a zero point.
    pub const AFFINE: Self = Self { symmetric: false, power_of_two: false };

    /// The same scaling with a power-of-two scale.
    #[must_use]
    pub fn power_of_two(self) -> Self {
        Self { power_of_two: true, ..self }
    }
}

/// An integer format: its number of bits, and whether its codes are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntFormat {
    bits: u32, // in [2, 16]
    signed: bool,
}

impl IntFormat {
    /// Bits of a code.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Whether codes can be negative.
    pub fn signed(self) -> bool {
        self.signed
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
}

/// The codes in which values are stored: integers, or small floats.
///
/// A floating format has no zero point. Its scaling is always symmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantFormat {
    /// evenly spaced levels
    Int(IntFormat),
    /// levels that are denser near zero
    Float(FloatFormat),
}

const INTEGER_BITS: std::ops::RangeInclusive<u32> = 2..=16;

impl QuantFormat {
    /// Signed 8 bits: codes −128…127.
    pub const INT8: Self = Self::Int(IntFormat { bits: 8, signed: true });
    /// Unsigned 8 bits: codes 0…255.
    pub const UINT8: Self = Self::Int(IntFormat { bits: 8, signed: false });
    /// Signed 4 bits: codes −8…7.
    pub const INT4: Self = Self::Int(IntFormat { bits: 4, signed: true });
    /// Unsigned 4 bits: codes 0…15.
    pub const UINT4: Self = Self::Int(IntFormat { bits: 4, signed: false });

    /// The format with this name: `int2` to `int16`, `uint2` to `uint16`, `float8_e4m3fn`,
    /// `float8_e5m2`, `float4_e2m1fn`.
    ///
    /// # Errors
    /// [`Error::Format`] for other names; it lists the known ones.
    pub fn parse(name: &str) -> Result<Self> {
        let unknown = || Error::Format(name.to_owned());
        if let Some(&(_, float)) = FloatFormat::ALL.iter().find(|(known, _)| *known == name) {
            return Ok(Self::Float(float));
        }
        let (signed, digits) = match name.strip_prefix('u') {
            Some(rest) => (false, rest.strip_prefix("int")),
            None => (true, name.strip_prefix("int")),
        };
        let bits = digits.and_then(|d| d.parse().ok()).ok_or_else(unknown)?;
        // Comparing with the name again refuses names such as "int08".
        let found = Self::Int(IntFormat { bits, signed });
        if INTEGER_BITS.contains(&bits) && found.name() == name {
            Ok(found)
        } else {
            Err(unknown())
        }
    }

    /// The name that [`parse`](Self::parse) takes.
    pub fn name(self) -> String {
        match self {
            Self::Int(int) => format!("{}int{}", if int.signed { "" } else { "u" }, int.bits),
            Self::Float(float) => float.name().to_owned(),
        }
    }

    /// All formats.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |signed| INTEGER_BITS.map(move |bits| Self::Int(IntFormat { bits, signed }));
        of(true).chain(of(false)).chain(FloatFormat::ALL.map(|(_, float)| Self::Float(float)))
    }

    /// Bits of a code.
    pub fn bits(self) -> u32 {
        match self {
            Self::Int(int) => int.bits,
            Self::Float(float) => float.bits(),
        }
    }

    /// The integer format, unless it is floating.
    pub fn int(self) -> Option<IntFormat> {
        match self {
            Self::Int(int) => Some(int),
            Self::Float(_) => None,
        }
    }

    /// Whether grids of this format and scaling have zero in the middle.
    pub fn is_symmetric(self, scaling: Scaling) -> bool {
        scaling.symmetric || matches!(self, Self::Float(_))
    }
}
