//! The element types that can be observed; each is read as `f32`, a block at a time.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Elements that one step of recording reads: 8 KiB of `f32`, well inside a first-level cache.
pub const BLOCK: usize = 2048;

/// A float that can be observed.
///
/// Every type is widened (or, for `f64`, rounded) to `f32`, whose bits are the bin number. The
/// widening of `f16` and `bf16` is exact.
pub trait Element: Copy + Send + Sync + 'static {
    /// Mantissa bits of the histogram that suits this type: all of them where the type has 16
    /// bits (so that every value is its own bin), 8 otherwise.
    const MANTISSA_BITS: u32;

    /// Returns `values` as `f32`, using `buffer` only when they are not `f32` already.
    /// `values` must not be longer than the buffer.
    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; BLOCK]) -> &'a [f32];
}

impl Element for f32 {
    const MANTISSA_BITS: u32 = 8;

    fn widen<'a>(values: &'a [Self], _: &'a mut [f32; BLOCK]) -> &'a [f32] {
        values
    }
}

impl Element for f64 {
    const MANTISSA_BITS: u32 = 8;

    /// Rounds to nearest; what overflows `f32` becomes ±inf and is counted there.
    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; BLOCK]) -> &'a [f32] {
        let out = &mut buffer[..values.len()];
        for (o, &v) in out.iter_mut().zip(values) {
            *o = v as f32;
        }
        out
    }
}

impl Element for f16 {
    const MANTISSA_BITS: u32 = 10;

    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; BLOCK]) -> &'a [f32] {
        let out = &mut buffer[..values.len()];
        values.convert_to_f32_slice(out);
        out
    }
}

impl Element for bf16 {
    const MANTISSA_BITS: u32 = 7;

    fn widen<'a>(values: &'a [Self], buffer: &'a mut [f32; BLOCK]) -> &'a [f32] {
        let out = &mut buffer[..values.len()];
        for (o, v) in out.iter_mut().zip(values) {
            *o = f32::from_bits(u32::from(v.to_bits()) << 16);
        }
        out
    }
}
