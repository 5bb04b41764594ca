//! Arrays to codes and back, as ONNX `QuantizeLinear` and `DequantizeLinear` define it.
//!
//! `q = saturate(round_half_even(x / scale) + zero_point)` and `x = (q − zero_point) · scale`, in
//! `f32`, with a true division. Saturation is at the ends of the integer type. NaN becomes the
//! lowest code, as onnxruntime's kernels have it.

use rayon::prelude::*;

use super::Grid;
use crate::parallel;

/// Elements of one task; their codes fit a second-level cache.
const PIECE: usize = 1 << 16;
/// Below this, a second thread is not worth waking.
const PARALLEL: usize = 1 << 17;

/// An integer that stores codes.
pub trait Code: Copy + Send + Sync {
    /// From a number within the limits of the type.
    fn from_i32(code: i32) -> Self;
    /// Into a wider integer.
    fn to_i32(self) -> i32;
}

impl Code for i8 {
    fn from_i32(code: i32) -> Self {
        code as Self
    }

    fn to_i32(self) -> i32 {
        i32::from(self)
    }
}

impl Code for u8 {
    fn from_i32(code: i32) -> Self {
        code as Self
    }

    fn to_i32(self) -> i32 {
        i32::from(self)
    }
}

impl Grid {
    /// The codes of `values`, written to `codes`, which has the same length.
    pub fn quantize<C: Code>(self, values: &[f32], codes: &mut [C]) {
        zip_pieces(values, codes, |values, codes| {
            for (code, &x) in codes.iter_mut().zip(values) {
                *code = C::from_i32(self.code(x));
            }
        });
    }

    /// The real values of `codes`, written to `values`, which has the same length.
    pub fn dequantize<C: Code>(self, codes: &[C], values: &mut [f32]) {
        zip_pieces(codes, values, |codes, values| {
            for (x, &code) in values.iter_mut().zip(codes) {
                *x = self.real(code.to_i32());
            }
        });
    }

    /// `values` quantised and dequantised, written to `out`, which has the same length.
    pub fn fake_quantize(self, values: &[f32], out: &mut [f32]) {
        zip_pieces(values, out, |values, out| {
            for (y, &x) in out.iter_mut().zip(values) {
                *y = self.real(self.code(x));
            }
        });
    }

    #[inline]
    fn code(self, x: f32) -> i32 {
        let (qmin, qmax) = (self.format.qmin() as f32, self.format.qmax() as f32);
        let zero_point = self.zero_point as f32;
        // `max` first: it turns NaN into the lowest code.
        let steps = (x / self.scale).max(qmin - zero_point).min(qmax - zero_point);
        round_half_even(steps) + self.zero_point
    }

    #[inline]
    fn real(self, code: i32) -> f32 {
        (code - self.zero_point) as f32 * self.scale
    }
}

/// Rounds |x| < 2^22 half to even: adding 1.5 · 2^23 leaves no bits below one, rounds that way in
/// doing so, and puts the whole number into the low bits of the sum. (`f32::round_ties_even` is a
/// function call where the processor's rounding instruction cannot be assumed, and a checked
/// conversion to integer keeps the loop from being vectorised.)
#[inline]
fn round_half_even(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

fn zip_pieces<A: Sync, B: Send>(from: &[A], to: &mut [B], work: impl Fn(&[A], &mut [B]) + Sync) {
    assert_eq!(from.len(), to.len(), "the caller allocates the output");
    parallel::run(from.len() >= PARALLEL, |parallel| {
        if parallel {
            let pieces = from.par_chunks(PIECE).zip(to.par_chunks_mut(PIECE));
            pieces.for_each(|(from, to)| work(from, to));
        } else {
            work(from, to);
        }
    });
}
