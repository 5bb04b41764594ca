//! The element types that can be observed. Each is read as `f32`, a block at a time.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Elements that are widened together: 8 KiB of `f32`, well inside a first-level cache of 32 KiB,
/// with room for the counters beside it.
pub const WIDEN_BLOCK: usize = 2048;

/// A float that can be observed.
///
/// Every type is converted to `f32`, whose bits give the bin. Widening `f16` and `bf16` is exact;
/// `f64` is rounded.
pub trait Element: Copy + Send + Sync + 'static {
    /// Default mantissa bits of a histogram of this type: all of them for 16-bit types, so that
    /// every value has its own bin; 8 otherwise.
    ///
    /// They lie between [`MIN_MANTISSA_BITS`](super::MIN_MANTISSA_BITS) and
    /// [`MAX_MANTISSA_BITS`](super::MAX_MANTISSA_BITS); recording a type with others does not
    /// compile. A histogram without a fixed resolution takes the minimum over the types that it
    /// records. So a type with few bits also coarsens the values of all others.
    const MANTISSA_BITS: u32;
    /// Mantissa bits of the type; a histogram of that many loses nothing.
    const ALL_MANTISSA_BITS: u32;

    /// Number of values of the exponent field.
    const OCTAVES: usize = 256;

    /// The bits of the values, if the type has 16.
    fn bits(values: &[Self]) -> Option<&[u16]> {
        let _ = values;
        None
    }

    /// The value with these bits, for types of 16 bits; 0 for the others.
    fn of_bits(bits: u16) -> Self;

    /// The value as `f32`, in operations that the compiler can vectorize.
    fn to_f32(self) -> f32;

    /// Returns `values` as `f32`; uses `buffer` only if they are not `f32` already. `values` must
    /// not be longer than the buffer.
    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; WIDEN_BLOCK]) -> &'a [f32];
}

/// Whether all values are finite.
pub(crate) fn are_finite<T: Element>(values: &[T]) -> bool {
    let mut buffer = [0.0; WIDEN_BLOCK];
    let finite = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
    values.chunks(WIDEN_BLOCK).all(|block| finite(T::widen(block, &mut buffer)))
}

impl Element for f32 {
    const MANTISSA_BITS: u32 = 8;
    const ALL_MANTISSA_BITS: u32 = 23;

    fn of_bits(_: u16) -> Self {
        0.0
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    fn widen<'a>(values: &'a [Self], _: &'a mut [f32; WIDEN_BLOCK]) -> &'a [f32] {
        values
    }
}

impl Element for f64 {
    const MANTISSA_BITS: u32 = 8;
    const ALL_MANTISSA_BITS: u32 = 23; // of the f32 that it is rounded to

    fn of_bits(_: u16) -> Self {
        0.0
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self as f32
    }

    /// Rounds to nearest. A value beyond `f32` becomes ±inf and is counted as such.
    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; WIDEN_BLOCK]) -> &'a [f32] {
        let out = &mut buffer[..values.len()];
        for (o, &v) in out.iter_mut().zip(values) {
            *o = v as f32;
        }
        out
    }
}

impl Element for f16 {
    const MANTISSA_BITS: u32 = 10;
    const ALL_MANTISSA_BITS: u32 = 10;
    const OCTAVES: usize = 32;

    fn bits(values: &[Self]) -> Option<&[u16]> {
        Some(values.reinterpret_cast())
    }

    fn of_bits(bits: u16) -> Self {
        Self::from_bits(bits)
    }

    /// Shifting exponent and mantissa into place gives a value 2^112 times too small, for denormals
    /// too; the product is exact. An exponent of all ones stays one.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((112 + 127) << 23);
        let non_finite = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(magnitude.to_bits() | non_finite | (bits & 0x8000) << 16)
    }

    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; WIDEN_BLOCK]) -> &'a [f32] {
        let out = &mut buffer[..values.len()];
        values.convert_to_f32_slice(out);
        out
    }
}

impl Element for bf16 {
    const MANTISSA_BITS: u32 = 7;
    const ALL_MANTISSA_BITS: u32 = 7;

    fn bits(values: &[Self]) -> Option<&[u16]> {
        Some(values.reinterpret_cast())
    }

    fn of_bits(bits: u16) -> Self {
        Self::from_bits(bits)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; WIDEN_BLOCK]) -> &'a [f32] {
        let out = &mut buffer[..values.len()];
        for (o, v) in out.iter_mut().zip(values) {
            *o = Element::to_f32(*v);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float16_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) =
                (Element::to_f32(f16::from_bits(bits)), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()));
            let b = bf16::from_bits(bits);
            assert!(Element::to_f32(b) == b.to_f32() || b.is_nan());
        }
    }
}
