//! Rounding to a grid and back, with the bits of onnxruntime's kernels on the CPU.
//!
//! It is `QuantizeLinear` and then `DequantizeLinear`, in `f32`: a true division, saturation at the
//! ends of the codes, rounding half to even, multiplication with the scale. NaN becomes the lowest
//! code, and −0 becomes +0, since codes have only one zero. Denormals are treated as the thread
//! treats them, because onnxruntime's own kernels do so too.

use crate::{
    format::{between, round_half_even},
    simd,
};

/// Largest distance of a code from the zero point. Up to there `f32` has every half, which rounding
/// needs; 16-bit codes reach 2^16.
const FARTHEST: f32 = 4_194_304.0;

/// A grid, in the form that the loop needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rounding {
    scale: f32,
    /// the lowest and the highest code, minus the zero point
    low: f32,
    high: f32,
}

impl Rounding {
    /// The rounding of a row: scale, zero point, lowest code, highest code. `None` for scale 0.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub(super) fn of(
        [scale, zero_point, lowest, highest]: [f32; 4],
    ) -> Result<Option<Self>, String> {
        if scale == 0.0 {
            return Ok(None);
        }
        if !(scale > 0.0 && scale.is_finite()) {
            return Err("the scale must be positive and finite, or 0 for no rounding".into());
        }
        if [zero_point, lowest, highest].iter().any(|code| code.fract() != 0.0) {
            return Err("zero point, lowest and highest code must be whole numbers".into());
        }
        if !(lowest <= zero_point && zero_point <= highest) {
            return Err("the zero point must lie between the lowest and the highest code".into());
        }
        let (low, high) = (lowest - zero_point, highest - zero_point);
        if -low > FARTHEST || high > FARTHEST {
            return Err(format!("codes must be within {FARTHEST} of the zero point"));
        }
        Ok(Some(Self { scale, low, high }))
    }

    /// Rounds `from` into `to`, which has the same length.
    pub(super) fn apply(self, from: &[f32], to: &mut [f32]) {
        simd::dispatch(Apart { rounding: self, from, to });
    }

    /// Rounds `values` where they are.
    pub(super) fn apply_in_place(self, values: &mut [f32]) {
        simd::dispatch(InPlace { rounding: self, values });
    }

    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        let steps = between(x / self.scale, self.low, self.high);
        round_half_even(steps) as f32 * self.scale
    }
}

struct Apart<'a> {
    rounding: Rounding,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl simd::Work for Apart<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, &x) in self.to.iter_mut().zip(self.from) {
            *y = self.rounding.round(x);
        }
    }
}

struct InPlace<'a> {
    rounding: Rounding,
    values: &'a mut [f32],
}

impl simd::Work for InPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for x in self.values {
            *x = self.rounding.round(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The integer formats: lowest and highest code.
    const FORMATS: [(i32, i32); 6] =
        [(0, 255), (-128, 127), (0, 65535), (-32768, 32767), (-8, 7), (0, 15)];

    /// The code of ONNX's definition, one case at a time, in integers from the rounding on.
    fn naive(x: f32, scale: f32, zero_point: i32, (lowest, highest): (i32, i32)) -> f32 {
        let steps = f64::from(x / scale);
        let code = if steps.is_nan() || steps < f64::from(lowest - zero_point) {
            lowest
        } else if steps > f64::from(highest - zero_point) {
            highest
        } else {
            let below = steps.floor();
            let up = match steps - below {
                0.5 => below as i64 % 2 != 0,
                rest => rest > 0.5,
            };
            below as i32 + i32::from(up) + zero_point
        };
        (code - zero_point) as f32 * scale
    }

    fn check(values: &[f32], scale: f32, zero_point: i32, format: (i32, i32)) {
        let row = [scale, zero_point as f32, format.0 as f32, format.1 as f32];
        let rounding = Rounding::of(row).unwrap().unwrap();
        let (mut apart, mut in_place) = (vec![7.0; values.len()], values.to_vec());
        rounding.apply(values, &mut apart);
        rounding.apply_in_place(&mut in_place);
        for (i, &x) in values.iter().enumerate() {
            let expected = naive(x, scale, zero_point, format).to_bits();
            assert_eq!(apart[i].to_bits(), expected, "{x:e} by {row:?}");
            assert_eq!(in_place[i].to_bits(), expected, "{x:e} by {row:?}, in place");
        }
    }

    #[test]
    fn special_values_ties_and_zeros_have_the_bits_of_the_definition() {
        let tiny = f32::from_bits(1);
        let mut values = vec![f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
        values.extend([f32::MIN, tiny, -tiny, 0.0, -0.0, -0.25, 0.499_999_97, -0.499_999_97]);
        values.extend((-600..600).map(|half| half as f32 / 2.0));
        for format in FORMATS {
            for zero_point in [format.0, format.0.midpoint(format.1), format.1] {
                for scale in [1.0, 0.5, 0.1, tiny, f32::MIN_POSITIVE, 1e30, f32::MAX] {
                    let scaled: Vec<f32> = values.iter().map(|x| x * scale).collect();
                    check(&values, scale, zero_point, format);
                    check(&scaled, scale, zero_point, format);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_values_and_grids_have_the_bits_of_the_definition(
            bits in prop::collection::vec(any::<u32>(), 0..70),
            near in prop::collection::vec(-70_000.0f32..70_000.0, 0..70),
            (scale, share, format) in (1u32..0x7f80_0000, 0.0..=1.0f64, 0..FORMATS.len()),
        ) {
            let (scale, format) = (f32::from_bits(scale), FORMATS[format]);
            let zero_point = format.0 + (share * f64::from(format.1 - format.0)) as i32;
            let mut values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            values.extend(near.iter().map(|steps| steps * scale));
            values.extend(near.iter().map(|steps| (steps.floor() + 0.5) * scale));
            check(&values, scale, zero_point, format);
        }
    }

    #[test]
    fn a_row_that_is_no_grid_is_refused() {
        assert_eq!(Rounding::of([0.0, f32::NAN, 9.5, -1.0]), Ok(None));
        assert_eq!(Rounding::of([-0.0, 0.0, 0.0, 0.0]), Ok(None));
        let nan = f32::NAN;
        for (row, words) in [
            ([-1.0, 0.0, 0.0, 255.0], "the scale must"),
            ([nan, 0.0, 0.0, 255.0], "the scale must"),
            ([f32::INFINITY, 0.0, 0.0, 255.0], "the scale must"),
            ([1.0, 0.5, 0.0, 255.0], "whole"),
            ([1.0, nan, 0.0, 255.0], "whole"),
            ([1.0, 0.0, f32::NEG_INFINITY, 255.0], "whole"),
            ([1.0, 256.0, 0.0, 255.0], "between"),
            ([1.0, -1.0, 0.0, 255.0], "between"),
            ([1.0, 0.0, 1.0, 0.0], "between"),
            ([1.0, 0.0, 0.0, 4_194_305.0], "within"),
            ([1.0, 0.0, -4_194_305.0, 0.0], "within"),
        ] {
            let error = Rounding::of(row).unwrap_err();
            assert!(error.contains(words), "{row:?}: {error}");
        }
    }
}
