//! What a pass over values finds beside their counts: extremes, zeros, non-finite values.

use super::keys::LANES;
use crate::{
    float::Element,
    simd::{self, Work},
};

/// Minimum, maximum and zeros of some values. Without infinities among them, the extremes are those
/// of the finite values.
pub(crate) struct Summary {
    pub(crate) min: f32,
    pub(crate) max: f32,
    pub(crate) zeros: u64,
}

impl Summary {
    pub(crate) fn new() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, zeros: 0 }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.zeros += other.zeros;
    }

    /// The minimum and the maximum, −0 as 0.
    pub(crate) fn extremes(&self) -> Option<(f32, f32)> {
        (self.min <= self.max).then_some((self.min + 0.0, self.max + 0.0))
    }

    /// Adds some zeros.
    pub(super) fn add_zeros(&mut self, zeros: u64) {
        if zeros > 0 {
            self.merge(&Self { min: 0.0, max: 0.0, zeros });
        }
    }

    /// Adds the extremes of 16-bit floats, given as bits. NaN is ordered beyond infinity there.
    pub(super) fn add_extreme_bits<T: Element>(&mut self, (min, max): (u16, u16)) {
        let value = |bits| {
            let x = T::of_bits(bits).to_f32();
            if x.is_nan() { f32::INFINITY.copysign(x) } else { x }
        };
        self.min = self.min.min(value(min));
        self.max = self.max.max(value(max));
    }

    #[inline(always)]
    pub(super) fn add(&mut self, x: f32) {
        // Comparisons with NaN are false, so NaN changes nothing.
        self.min = if x < self.min { x } else { self.min };
        self.max = if x > self.max { x } else { self.max };
        self.zeros += u64::from(x == 0.0);
    }
}

/// Numbers of non-finite values.
#[derive(Default)]
pub(crate) struct NonFiniteCounts {
    pub(crate) nan: u64,
    pub(crate) posinf: u64,
    pub(crate) neginf: u64,
}

impl NonFiniteCounts {
    /// Counts the non-finite values of a block, and adds the others to `seen`.
    pub(crate) fn count(&mut self, block: &[f32], seen: &mut Summary) {
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

/// What a scan of some values finds before any is counted.
pub(crate) struct Scan {
    pub(crate) seen: Summary,
    pub(crate) finite: bool, // whether all values are
    pub(crate) bits: u32,    // the bits that are set in any value
}

/// Scans some values.
pub(crate) fn scan(values: &[f32]) -> Scan {
    if values.len() < LANES {
        ScanWork { values }.run()
    } else {
        simd::dispatch(ScanWork { values })
    }
}

struct ScanWork<'a> {
    values: &'a [f32],
}

impl simd::Work for ScanWork<'_> {
    type Output = Scan;

    #[inline(always)]
    fn run(self) -> Scan {
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
        Scan { seen, finite, bits }
    }
}
