//! The histogram as a density with prefix sums: what every search asks.
//!
//! Each non-empty bin becomes a [`Segment`]: a uniform density over its interval, cut to the exact
//! minimum and maximum, or a point where the values are known (zeros, exact histograms, a lone
//! extreme). Prefix sums of N = ∫p, S1 = ∫x·p and S2 = ∫x²·p then give the [`Mass`] of any
//! interval in O(1): the bin of a number is its own top bits. The squared error of a cell
//! of the quantisation grid represented by q is S2 − 2q·S1 + q²·N, so a candidate range costs
//! O(levels), not O(elements) nor O(bins).

use super::{
    Histogram,
    index::{Index, Side},
    segment::{Bins, Mass, Segment},
};
use crate::{float::Layout, simd};

/// Prefix sums over the density of a histogram; built once for each tensor, in O(bins).
#[derive(Debug, Clone)]
pub struct Density {
    segments: Vec<Segment>, // rising, not overlapping
    pieces: Vec<Piece>,     // of all segments, and an empty one at the end
    ranks: Vec<u64>,        // number of values before; one longer than `segments`
    index: Index,
}

/// A segment as a look-up needs it, all in one place.
#[derive(Debug, Clone, Copy)]
struct Piece {
    low: f64,
    high: f64,
    rate: f64, // values by unit of length; 0 for a point
    before: Mass,
}

impl Density {
    /// The density of the finite values of a histogram. O(bins).
    pub fn new(histogram: &Histogram) -> Self {
        simd::with_subnormals(|| Self::of(Bins::of(histogram)))
    }

    /// The density of their magnitudes: that of [`Histogram::magnitudes`]. O(bins).
    pub fn of_magnitudes(histogram: &Histogram) -> Self {
        simd::with_subnormals(|| Self::of(Bins::of_magnitudes(histogram)))
    }

    fn of(bins: Bins) -> Self {
        let Bins { layout, negative, positive, segments } = bins;
        let mut pieces = Vec::with_capacity(segments.len() + 1);
        let mut ranks = Vec::with_capacity(segments.len() + 1);
        let (mut before, mut rank) = (Mass::default(), 0u64);
        for segment in &segments {
            let &Segment { low, high, count } = segment;
            let rate = if high > low { count as f64 / (high - low) } else { 0.0 };
            pieces.push(Piece { low, high, rate, before });
            ranks.push(rank);
            before = before + segment.whole();
            rank = rank.saturating_add(count);
        }
        pieces.push(Piece { low: f64::INFINITY, high: f64::INFINITY, rate: 0.0, before });
        ranks.push(rank);
        let zeros = segments.len() > negative.len() + positive.len();
        let index = Index::new(layout, &negative, &positive, zeros);
        Self { segments, pieces, ranks, index }
    }

    /// All segments, rising.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments with those joined that lie in one bin of `mantissa_bits`, or that are no wider
    /// than `width` together: what a search needs to see. Zeros stay apart; segments are left as they
    /// are where they are few.
    pub(crate) fn thinned(&self, mantissa_bits: u32, width: f64) -> Vec<Segment> {
        const FEW: usize = 512;
        if self.segments.len() <= FEW {
            return self.segments.clone();
        }
        let layout = Layout::of(mantissa_bits);
        let bin = |s: &Segment| layout.code((0.5 * (s.low + s.high)) as f32);
        let is_zero = |s: &Segment| s.low == 0.0 && s.high == 0.0;
        let mut thin: Vec<Segment> = Vec::new();
        for segment in &self.segments {
            match thin.last_mut() {
                Some(last)
                    if !is_zero(last)
                        && !is_zero(segment)
                        && (segment.high - last.low <= width || bin(last) == bin(segment)) =>
                {
                    last.high = segment.high;
                    last.count = last.count.saturating_add(segment.count);
                }
                _ => thin.push(*segment),
            }
        }
        thin
    }

    /// Number of finite values.
    pub fn count(&self) -> u64 {
        self.ranks[self.segments.len()]
    }

    /// Number of values in the segments before segment `k`.
    pub(crate) fn rank(&self, k: usize) -> u64 {
        self.ranks[k]
    }

    /// Smallest value; `None` without values.
    pub fn min(&self) -> Option<f64> {
        self.segments.first().map(|s| s.low)
    }

    /// Largest value; `None` without values.
    pub fn max(&self) -> Option<f64> {
        self.segments.last().map(|s| s.high)
    }

    /// Largest magnitude; 0 without values.
    pub fn abs_max(&self) -> f64 {
        self.min().map_or(0.0, f64::abs).max(self.max().map_or(0.0, f64::abs))
    }

    /// All of it.
    pub fn total(&self) -> Mass {
        self.pieces[self.segments.len()].before
    }

    /// The mass below `x`, in O(1). Values equal to `x` are not below.
    #[inline(always)]
    pub fn below(&self, x: f64) -> Mass {
        let (piece, rest) = self.reached(x);
        if rest == 0.0 {
            return piece.before;
        }
        let (a, n) = (piece.low, piece.rate * rest);
        let Mass { n: n0, s1, s2 } = piece.before;
        Mass {
            n: n0 + n,
            s1: s1 + n * (0.5 * (a + x)),
            s2: s2 + n * ((a * a + a * x + x * x) * (1.0 / 3.0)),
        }
    }

    /// The number of values below `x` alone.
    #[inline(always)]
    pub(crate) fn number_below(&self, x: f64) -> f64 {
        let (piece, rest) = self.reached(x);
        piece.before.n + piece.rate * rest
    }

    /// The first segment that is not wholly below `x`; segments before it are.
    #[inline(always)]
    pub(crate) fn locate(&self, x: f64) -> usize {
        self.index.locate(x)
    }

    /// The same for many numbers of one sign.
    pub(crate) fn of_sign(&self, negative: bool) -> Side<'_> {
        self.index.of_sign(negative)
    }

    /// The piece that `x` is in, or the next one, and how far: 0 where nothing of it is below `x`.
    #[inline(always)]
    fn reached(&self, x: f64) -> (&Piece, f64) {
        let k = self.index.locate(x);
        let piece = &self.pieces[k];
        if x >= piece.high && x > piece.low {
            return (&self.pieces[k + 1], 0.0);
        }
        (piece, if x > piece.low { x - piece.low } else { 0.0 })
    }

    /// Number of values below `x`, whole bins exactly and the part of a bin rounded to nearest.
    pub fn count_below(&self, x: f64) -> u64 {
        let k = self.index.locate(x);
        let part = self.segments.get(k).map_or(0, |s| s.below(x));
        self.ranks[k].saturating_add(part)
    }

    /// Number of values below or equal to `x`.
    pub fn count_up_to(&self, x: f64) -> u64 {
        let k = self.index.locate(x);
        let part = match self.segments.get(k) {
            Some(s) if s.low == s.high && s.low == x => s.count,
            Some(s) => s.below(x),
            None => 0,
        };
        self.ranks[k].saturating_add(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_value_and_leaves_zeros_apart() {
        let values: Vec<f32> = (1..20_000).map(|i| (i as f32 - 10_000.0) * 1.01e-3).collect();
        let values: Vec<f32> = values.into_iter().chain([0.0; 500]).collect();
        let density = Density::new(&Histogram::of(&values));
        for (mantissa_bits, width) in [(4, 0.0), (12, 0.05), (6, 1e-3)] {
            let thin = density.thinned(mantissa_bits, width);
            assert!(thin.len() < density.segments().len() / 2);
            assert_eq!(thin.iter().map(|s| s.count).sum::<u64>(), density.count());
            assert!(thin.iter().is_sorted_by(|a, b| a.high <= b.low));
            let zeros = thin.iter().filter(|s| s.low <= 0.0 && s.high >= 0.0);
            let zeros: Vec<_> = zeros.filter(|s| s.count >= 500).collect();
            assert_eq!(zeros.len(), 1);
            assert_eq!((zeros[0].low, zeros[0].high), (0.0, 0.0));
        }
    }
}
