//! From the bits of a float to the code of its bin, and back to the edges of the bin.
//!
//! An `f32` has a sign, 8 bits of exponent and 23 of mantissa. For either sign its bits, read as an
//! integer, rise with its magnitude. So dropping all but `m` mantissa bits groups neighboring
//! values: `code = bits >> (23 - m)`. An octave has 2^m bins, so every bin has a relative width of
//! 2^-m. Denormals have bins as wide as those of the lowest normal octave. No range has to be known
//! beforehand, and no value falls outside.
//!
//! The code of a negative value is that of its magnitude with the sign bit on top, so codes fall as
//! negative values rise. Infinities and NaN have codes above all finite ones of their sign.

use super::Element;
use crate::error::{Error, Result};

/// Coarsest resolution: 8 bins an octave.
pub const MIN_MANTISSA_BITS: u32 = 3;
/// Finest resolution: 4096 bins an octave.
pub const MAX_MANTISSA_BITS: u32 = 12;

/// The resolution of the bins. Only this type knows the shifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    mantissa_bits: u32, // in [3, 12]
}

impl Layout {
    /// Octaves of one sign: the values of the exponent field, of which 255 are finite.
    pub(crate) const OCTAVES: usize = 256;

    /// The layout with 2^`mantissa_bits` bins an octave.
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12.
    pub fn new(mantissa_bits: u32) -> Result<Self> {
        if (MIN_MANTISSA_BITS..=MAX_MANTISSA_BITS).contains(&mantissa_bits) {
            Ok(Self { mantissa_bits })
        } else {
            Err(Error::MantissaBits(mantissa_bits.into()))
        }
    }

    /// The layout of an element type. Its mantissa bits are checked when it is compiled.
    pub(crate) fn native<T: Element>() -> Self {
        const {
            assert!(
                T::MANTISSA_BITS >= MIN_MANTISSA_BITS && T::MANTISSA_BITS <= MAX_MANTISSA_BITS,
                "Element::MANTISSA_BITS must be 3 to 12"
            );
        }
        Self { mantissa_bits: T::MANTISSA_BITS }
    }

    /// The layout with mantissa bits that are known to be within the limits.
    pub(crate) fn of(mantissa_bits: u32) -> Self {
        debug_assert!((MIN_MANTISSA_BITS..=MAX_MANTISSA_BITS).contains(&mantissa_bits));
        Self { mantissa_bits }
    }

    /// Mantissa bits that the code keeps.
    pub fn mantissa_bits(self) -> u32 {
        self.mantissa_bits
    }

    /// Low bits of an `f32` that the code drops.
    #[inline]
    pub(crate) fn shift(self) -> u32 {
        23 - self.mantissa_bits
    }

    /// Bins of one octave.
    #[inline]
    pub(crate) fn bins_per_octave(self) -> usize {
        1 << self.mantissa_bits
    }

    /// Number of codes of both signs, non-finite ones included.
    #[inline]
    pub(crate) fn codes(self) -> usize {
        (2 * Self::OCTAVES) << self.mantissa_bits
    }

    /// The code of a value.
    #[inline]
    pub(crate) fn code(self, value: f32) -> usize {
        (value.to_bits() >> self.shift()) as usize
    }

    /// Whether codes keep all of these bits of a value.
    #[inline]
    pub(crate) fn keeps(self, bits: u32) -> bool {
        bits & ((1 << self.shift()) - 1) == 0
    }

    /// Number of finite magnitude codes; those from here up to the sign bit are not finite.
    pub(crate) fn finite_magnitudes(self) -> usize {
        255 << self.mantissa_bits
    }

    /// Splits a code into its sign and the code of its magnitude.
    pub(crate) fn split(self, code: usize) -> (bool, usize) {
        let sign = Self::OCTAVES << self.mantissa_bits;
        (code & sign != 0, code & (sign - 1))
    }

    /// The code with this sign and magnitude code.
    pub(crate) fn join(self, negative: bool, magnitude: usize) -> usize {
        magnitude + ((usize::from(negative) * Self::OCTAVES) << self.mantissa_bits)
    }

    /// The inner edge of a bin, given the code of its magnitude.
    pub(crate) fn inner_edge(self, magnitude: usize) -> f64 {
        if magnitude >= self.finite_magnitudes() {
            return libm::ldexp(1.0, 128); // the upper edge of the last finite bin
        }
        f64::from(f32::from_bits((magnitude as u32) << self.shift()))
    }

    /// The smallest magnitude of a value in a bin. Zero itself is in no bin.
    pub(crate) fn smallest(self, magnitude: usize) -> f32 {
        f32::from_bits(((magnitude as u32) << self.shift()).max(1))
    }

    /// The magnitude code of a finite `x ≥ 0`, saturated at the last finite bin.
    #[inline]
    pub(crate) fn magnitude_of(self, x: f64) -> usize {
        const BIAS: u64 = 1023 - 127;
        let m = self.mantissa_bits;
        if x < f64::from(f32::MIN_POSITIVE) {
            // Denormal bins are as wide as those of the lowest normal octave.
            return libm::ldexp(x, 126 + m as i32) as usize;
        }
        let code = (x.to_bits() >> (52 - m)) - (BIAS << m);
        (code as usize).min(self.finite_magnitudes() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bin_holds_its_edges_and_nothing_of_its_neighbors() {
        for m in [3, 7, 8, 10, 12] {
            let layout = Layout::new(m).expect("in range");
            for magnitude in 0..layout.finite_magnitudes() {
                let low = f32::from_bits((magnitude as u32) << layout.shift());
                let high = f32::from_bits((((magnitude + 1) as u32) << layout.shift()) - 1);
                assert_eq!(layout.code(low), magnitude);
                assert_eq!(layout.code(high), magnitude);
                assert_eq!(layout.split(layout.code(-high)), (true, magnitude));
                assert_eq!(layout.inner_edge(magnitude), f64::from(low));
                assert!(f64::from(high) < layout.inner_edge(magnitude + 1));
                assert_eq!(layout.magnitude_of(f64::from(low)), magnitude);
                assert_eq!(layout.magnitude_of(f64::from(high)), magnitude);
            }
        }
    }

    #[test]
    fn every_sixteen_bit_value_has_its_own_bin() {
        for bits in 0..=u16::MAX {
            let b = half::bf16::from_bits(bits);
            if b.is_finite() {
                let (_, magnitude) = Layout::of(7).split(Layout::of(7).code(b.to_f32()));
                assert_eq!(Layout::of(7).inner_edge(magnitude), f64::from(b.to_f32().abs()));
            }
            let h = half::f16::from_bits(bits);
            if h.is_finite() {
                let (_, magnitude) = Layout::of(10).split(Layout::of(10).code(h.to_f32()));
                assert_eq!(Layout::of(10).inner_edge(magnitude), f64::from(h.to_f32().abs()));
            }
        }
    }

    #[test]
    fn resolution_outside_the_limits_is_refused() {
        assert_eq!(Layout::new(2), Err(Error::MantissaBits(2)));
        assert_eq!(Layout::new(13), Err(Error::MantissaBits(13)));
    }
}
