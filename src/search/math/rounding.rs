//! Rounding to integers without a function call.

/// The integer next to `x`; either one for halves, and `x` itself if it has no fraction.
///
/// The rounding of the standard library is a function call on processors without the instruction.
#[inline]
pub(crate) fn nearest(x: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: adding it leaves no fraction
    if x.abs() < 2_251_799_813_685_248.0 { (x + MAGIC) - MAGIC } else { x }
}
