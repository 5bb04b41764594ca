//! A format with its scale and zero point.

use super::{QuantFormat, Range, Scaling};
use crate::error::{Error, Result};

/// A format with its scale and zero point: real = (code − zero point) · scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    pub(super) format: QuantFormat,
    pub(super) scale: f32,      // finite, positive
    pub(super) zero_point: i32, // a code of the format; 0 for floating formats
}

impl QuantFormat {
    /// The grid that represents `range`.
    ///
    /// * Symmetric: scale = max(|low|, |high|) / m, where m is 2^(bits−1) − 1, or the largest value
    ///   of a floating format.
    /// * Affine: the range is first widened to contain 0. Then scale = (high − low) / (2^bits − 1).
    ///   The zero point is the nearest code, so that 0 is represented exactly.
    /// * A power-of-two scale is the smallest that is not below these.
    ///
    /// The scale is always finite and positive. It is 1 for a range of [0, 0], and never below the
    /// smallest normal `f32`, so that its reciprocal and its products are well defined.
    pub fn grid(self, range: Range, scaling: Scaling) -> Grid {
        let usable = |scale: f64| {
            usable(if scaling.power_of_two { power_of_two_from(scale) } else { scale })
        };
        let int = match self {
            Self::Int(int) => int,
            Self::Float(float) => {
                let scale = usable(range.abs_max() / f64::from(float.max()));
                return Grid { format: self, scale, zero_point: 0 };
            }
        };
        if scaling.symmetric {
            let scale = usable(range.abs_max() / f64::from(int.symmetric_steps()));
            return Grid { format: self, scale, zero_point: int.symmetric_zero_point() };
        }
        let (low, high) = (range.low.min(0.0), range.high.max(0.0));
        let scale = usable((high - low) / f64::from(int.qmax() - int.qmin()));
        let zero_point = f64::from(int.qmin()) - low / f64::from(scale);
        let zero_point = (zero_point.round_ties_even() as i32).clamp(int.qmin(), int.qmax());
        Grid { format: self, scale, zero_point }
    }
}

/// The finite positive `f32` nearest to the wanted scale.
fn usable(scale: f64) -> f32 {
    if scale == 0.0 || scale.is_nan() {
        return 1.0;
    }
    (scale as f32).clamp(f32::MIN_POSITIVE, f32::MAX)
}

/// The smallest power of two that is not below `x`, limited to those of normal `f32`.
fn power_of_two_from(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    let below = f64::from_bits(x.to_bits() & (0x7ff << 52)); // drops the mantissa
    let power = if below < x { 2.0 * below } else { below };
    power.clamp(f64::from(f32::MIN_POSITIVE), libm::ldexp(1.0, 127))
}

impl Grid {
    /// The grid with this scale and zero point.
    ///
    /// # Errors
    /// [`Error::Scale`] unless the scale is finite and positive; [`Error::ZeroPoint`] unless the
    /// zero point is a code of the format, or 0 for a floating format.
    pub fn new(format: QuantFormat, scale: f32, zero_point: i32) -> Result<Self> {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::Scale(scale));
        }
        let (qmin, qmax) = format.int().map_or((0, 0), |int| (int.qmin(), int.qmax()));
        if !(qmin..=qmax).contains(&zero_point) {
            return Err(Error::ZeroPoint { zero_point, qmin, qmax });
        }
        Ok(Self { format, scale, zero_point })
    }

    /// The same grid with another scale, or the nearest scale that a grid can have.
    pub(crate) fn with_scale(self, scale: f64) -> Self {
        Self { scale: usable(scale), ..self }
    }

    /// The format.
    pub fn format(self) -> QuantFormat {
        self.format
    }

    /// The real distance between two codes; for a floating format, the real value of 1.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// The code of zero.
    pub fn zero_point(self) -> i32 {
        self.zero_point
    }

    /// The lowest and the highest level, in units of the scale.
    pub(crate) fn ends(self) -> (f64, f64) {
        match self.format {
            QuantFormat::Int(int) => {
                let steps = |code: i32| f64::from(code - self.zero_point);
                (steps(int.qmin()), steps(int.qmax()))
            }
            QuantFormat::Float(float) => (-f64::from(float.max()), f64::from(float.max())),
        }
    }

    /// The range that the grid represents without clipping: from its lowest to its highest level.
    /// With symmetric scaling it reaches as far below zero as above.
    pub fn range(self, scaling: Scaling) -> Range {
        let (low, high) = self.ends();
        let scale = f64::from(self.scale);
        if self.format.is_symmetric(scaling) {
            return Range::symmetric(high * scale);
        }
        Range { low: low * scale, high: high * scale }
    }

    /// Number of levels.
    pub(crate) fn num_levels(self) -> usize {
        match self.format {
            QuantFormat::Int(int) => 1 << int.bits(),
            QuantFormat::Float(float) => float.levels().len(),
        }
    }

    /// Half the distance of the outermost two levels.
    ///
    /// A value is clipped if it lies further than this beyond the last level, so that saturation
    /// moves it further than rounding would. Counting every value beyond the last level called 14 %
    /// of a hard-swish output clipped that lies within half a step of its minimum.
    pub(crate) fn reach(self) -> f64 {
        f64::from(self.scale)
            * match self.format {
                QuantFormat::Int(_) => 0.5,
                QuantFormat::Float(float) => {
                    let levels = float.levels();
                    let last = levels.len() - 1;
                    0.5 * f64::from(levels[last] - levels[last - 1])
                }
            }
    }

    /// The largest magnitude that rounds to zero; halves round to even.
    pub(crate) fn zero_reach(self) -> f64 {
        f64::from(self.scale)
            * match self.format {
                QuantFormat::Int(_) => 0.5,
                QuantFormat::Float(float) => 0.5 * f64::from(float.smallest()),
            }
    }

    /// Calls `visit` with each level and the upper end of its cell, by rising value. The last cell
    /// ends at infinity. A value exactly between two levels has the same error in either cell.
    #[inline]
    pub(crate) fn for_each_cell(self, mut visit: impl FnMut(f64, f64)) {
        let scale = f64::from(self.scale);
        match self.format {
            QuantFormat::Int(int) => {
                for code in int.qmin()..int.qmax() {
                    let steps = f64::from(code - self.zero_point);
                    visit(steps * scale, (steps + 0.5) * scale);
                }
                visit(f64::from(int.qmax() - self.zero_point) * scale, f64::INFINITY);
            }
            QuantFormat::Float(float) => {
                let levels = float.levels();
                for pair in levels.windows(2) {
                    let (a, b) = (f64::from(pair[0]), f64::from(pair[1]));
                    visit(a * scale, 0.5 * (a + b) * scale);
                }
                visit(f64::from(float.max()) * scale, f64::INFINITY);
            }
        }
    }
}
