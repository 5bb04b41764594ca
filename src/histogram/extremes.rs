//! What a pass over values finds beside their counts.

use super::kinds::LANES;
use crate::{
    float::Element,
    simd::{self, Work},
};

/// What a pass over values finds. The extremes are those of the finite values only if there are no
/// infinities.
pub(super) struct Summary {
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) zeros: u64,
}

impl Summary {
    pub(super) fn new() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, zeros: 0 }
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.zeros += other.zeros;
    }

    /// The smallest and the largest value, −0 as 0.
    pub(super) fn extremes(&self) -> Option<(f32, f32)> {
        (self.min <= self.max).then_some((self.min + 0.0, self.max + 0.0))
    }

    /// Takes in some zeros.
    pub(super) fn add_zeros(&mut self, zeros: u64) {
        if zeros > 0 {
            self.join(&Self { min: 0.0, max: 0.0, zeros });
        }
    }

    /// Takes in the bits of two extremes; in the order of bits NaN lies beyond infinity.
    pub(super) fn widen<T: Element>(&mut self, (min, max): (u16, u16)) {
        let value = |bits| {
            let x = T::of_bits(bits).to_f32();
            if x.is_nan() { f32::INFINITY.copysign(x) } else { x }
        };
        self.min = self.min.min(value(min));
        self.max = self.max.max(value(max));
    }

    #[inline(always)]
    pub(super) fn add(&mut self, x: f32) {
        // Comparisons with NaN are false, so NaN is passed over.
        self.min = if x < self.min { x } else { self.min };
        self.max = if x > self.max { x } else { self.max };
        self.zeros += u64::from(x == 0.0);
    }
}

/// How many values are not finite.
#[derive(Default)]
pub(super) struct NonFinite {
    pub(super) nan: u64,
    pub(super) posinf: u64,
    pub(super) neginf: u64,
}

impl NonFinite {
    /// Counts the non-finite values of a block, and finds the extremes among the others.
    pub(super) fn count(&mut self, block: &[f32], seen: &mut Summary) {
        for &x in block {
            if x.is_nan() {
                self.nan += 1;
            } else if x == f32::INFINITY {
                self.posinf += 1;
            } else if x == f32::NEG_INFINITY {
                self.neginf += 1;
            } else {
                seen.add(x);
            }
        }
    }
}

/// What a look at some values finds, before any is counted.
pub(super) struct Glance {
    pub(super) seen: Summary,
    pub(super) finite: bool, // whether all values are
    pub(super) bits: u32,    // all that are set in some value
}

/// Looks at some values.
pub(super) fn glance(values: &[f32]) -> Glance {
    if values.len() < LANES { Look { values }.run() } else { simd::dispatch(Look { values }) }
}

struct Look<'a> {
    values: &'a [f32],
}

impl simd::Work for Look<'_> {
    type Output = Glance;

    #[inline(always)]
    fn run(self) -> Glance {
        let mut seen = Summary::new();
        let (mut finite, mut bits) = (true, 0);
        let (chunks, rest) = self.values.as_chunks::<LANES>();
        if !chunks.is_empty() {
            let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
            let (mut zeros, mut odd, mut all) = ([0u32; LANES], [false; LANES], [0; LANES]);
            for chunk in chunks {
                for (i, &x) in chunk.iter().enumerate() {
                    min[i] = if x < min[i] { x } else { min[i] };
                    max[i] = if x > max[i] { x } else { max[i] };
                    zeros[i] += u32::from(x == 0.0);
                    odd[i] |= !x.is_finite();
                    all[i] |= x.to_bits();
                }
            }
            for i in 0..LANES {
                seen.min = if min[i] < seen.min { min[i] } else { seen.min };
                seen.max = if max[i] > seen.max { max[i] } else { seen.max };
                seen.zeros += u64::from(zeros[i]);
                bits |= all[i];
            }
            finite = !odd.contains(&true);
        }
        for &x in rest {
            seen.add(x);
            finite &= x.is_finite();
            bits |= x.to_bits();
        }
        Glance { seen, finite, bits }
    }
}
