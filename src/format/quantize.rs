//! Arrays to codes and back, as ONNX `QuantizeLinear` and `DequantizeLinear` define it.
//!
//! Integers: `q = saturate(round_half_even(x / scale) + zero_point)` and
//! `x = (q − zero_point) · scale`, in `f32`, with a true division. Saturation is at the ends of the
//! integer type. NaN becomes the lowest code, as onnxruntime's kernels have it. Floats: `x / scale`
//! is rounded to the format by [`FloatFormat::encode`], which saturates.

use super::{FloatFormat, Grid, IntFormat, QuantFormat};
use crate::{parallel, simd};

/// Elements of one task; their codes fit a second-level cache.
const PIECE: usize = 1 << 16;
/// Below this, some 0.1 ms of work, a second thread is not worth waking.
const PARALLEL: usize = 1 << 19;

/// An integer that stores codes: those of a floating format are their bits.
pub trait Code: Copy + Send + Sync {
    /// From a number within the limits of the type.
    fn from_i32(code: i32) -> Self;
    /// Into a wider integer.
    fn to_i32(self) -> i32;
}

macro_rules! codes {
    ($($integer:ty),*) => {$(
        impl Code for $integer {
            #[inline(always)]
            fn from_i32(code: i32) -> Self {
                code as Self
            }

            #[inline(always)]
            fn to_i32(self) -> i32 {
                i32::from(self)
            }
        }
    )*};
}

codes!(i8, u8, i16, u16);

impl Grid {
    /// The codes of `values`, written to `codes`, which has the same length.
    pub fn quantize<C: Code>(self, values: &[f32], codes: &mut [C]) {
        match self.format {
            QuantFormat::Int(int) => {
                map_pieces(values, codes, move |x| C::from_i32(self.code(int, x)));
            }
            QuantFormat::Float(float) => {
                map_pieces(values, codes, move |x| {
                    C::from_i32(float.encode(x / self.scale).into())
                });
            }
        }
    }

    /// The real values of `codes`, written to `values`, which has the same length.
    pub fn dequantize<C: Code>(self, codes: &[C], values: &mut [f32]) {
        match self.format {
            QuantFormat::Int(_) => map_pieces(codes, values, move |code| self.real(code.to_i32())),
            QuantFormat::Float(float) => {
                let table = decoded(float, self.scale);
                map_pieces(codes, values, |code| table[usize::from(code.to_i32() as u8)]);
            }
        }
    }

    /// `values` quantised and dequantised, written to `out`, which has the same length.
    pub fn fake_quantize(self, values: &[f32], out: &mut [f32]) {
        match self.format {
            QuantFormat::Int(int) => map_pieces(values, out, move |x| self.real(self.code(int, x))),
            QuantFormat::Float(float) => {
                map_pieces(values, out, move |x| float.round(x / self.scale) * self.scale);
            }
        }
    }

    #[inline(always)]
    pub(crate) fn code(self, int: IntFormat, x: f32) -> i32 {
        let (qmin, qmax) = (int.qmin() as f32, int.qmax() as f32);
        let zero_point = self.zero_point as f32;
        let steps = between(x / self.scale, qmin - zero_point, qmax - zero_point);
        round_half_even(steps) + self.zero_point
    }

    #[inline(always)]
    pub(super) fn real(self, code: i32) -> f32 {
        (code - self.zero_point) as f32 * self.scale
    }
}

/// The real value of each code.
fn decoded(float: FloatFormat, scale: f32) -> [f32; 256] {
    std::array::from_fn(|code| float.decode(code as u8) * scale)
}

/// `x`, but not below `low` nor above `high`; NaN becomes `low`. (One instruction each: `f32::max` and
/// `min` look for NaN on either side.)
#[inline(always)]
pub(crate) fn between(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// Rounds |x| < 2^22 half to even: adding 1.5 · 2^23 leaves no bits below one, rounds that way in
/// doing so, and puts the whole number into the low bits of the sum. (`f32::round_ties_even` is a
/// function call where the processor's rounding instruction cannot be assumed, and a checked
/// conversion to integer keeps the loop from being vectorised.)
#[inline(always)]
pub(crate) fn round_half_even(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

/// A piece of work, compiled for wide vectors too.
struct Piece<'a, A, B, F> {
    from: &'a [A],
    to: &'a mut [B],
    map: F, // a copy: what is borrowed might be written to through `to`, for all the compiler knows
}

impl<A: Copy, B, F: Fn(A) -> B> simd::Work for Piece<'_, A, B, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { from, to, map } = self;
        for (b, &a) in to.iter_mut().zip(from) {
            *b = map(a);
        }
    }
}

fn map_pieces<A: Copy + Sync, B: Send>(
    from: &[A],
    to: &mut [B],
    map: impl Fn(A) -> B + Copy + Sync,
) {
    assert_eq!(from.len(), to.len(), "the caller allocates the output");
    let work = |from: &[A], to: &mut [B]| simd::dispatch(Piece { from, to, map });
    let pieces = from.chunks(PIECE).zip(to.chunks_mut(PIECE));
    parallel::for_each(from.len() >= PARALLEL, pieces, |(from, to)| work(from, to));
}
