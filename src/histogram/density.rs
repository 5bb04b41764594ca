//! The histogram as a density with prefix sums: what every search asks.
//!
//! Each non-empty bin becomes a [`Segment`]: a uniform density over its interval, cut to the exact
//! minimum and maximum, or a point where the values are known (zeros, exact histograms, a lone
//! extreme). Prefix sums of N = ∫p, S1 = ∫x·p and S2 = ∫x²·p then give the [`Mass`] of any
//! interval in O(1): the bin of a number is its own top bits. The squared error of a cell
//! of the quantisation grid represented by q is S2 − 2q·S1 + q²·N, so a candidate range costs
//! O(levels), not O(elements) nor O(bins).

use super::Histogram;
use crate::float::Layout;

/// Part of the density: `count` values spread evenly over [`low`, `high`], or all at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// lower end
    pub low: f64,
    /// upper end; equal to `low` for a point
    pub high: f64,
    /// number of values
    pub count: u64,
}

/// Number, sum and sum of squares of the values of some interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mass {
    /// ∫ p: how many
    pub n: f64,
    /// ∫ x p: their sum
    pub s1: f64,
    /// ∫ x² p: the sum of their squares
    pub s2: f64,
}

impl Mass {
    /// The squared error of representing all of it by `q`.
    #[inline]
    pub fn squared_error(self, q: f64) -> f64 {
        self.s2 - q * (2.0 * self.s1 - q * self.n)
    }
}

impl std::ops::Add for Mass {
    type Output = Self;

    fn add(self, rhs: Self) -> Self {
        Self { n: self.n + rhs.n, s1: self.s1 + rhs.s1, s2: self.s2 + rhs.s2 }
    }
}

impl std::ops::Sub for Mass {
    type Output = Self;

    fn sub(self, rhs: Self) -> Self {
        Self { n: self.n - rhs.n, s1: self.s1 - rhs.s1, s2: self.s2 - rhs.s2 }
    }
}

impl Segment {
    /// The mass of the part below `x`; the point itself is not below.
    #[inline]
    fn below(&self, x: f64) -> Mass {
        let (a, n) = (self.low, self.count as f64);
        if x >= self.high {
            if a == self.high && x == a {
                return Mass::default();
            }
            return self.whole();
        }
        if x <= a {
            return Mass::default();
        }
        let part = n * ((x - a) / (self.high - a));
        Mass { n: part, s1: part * (0.5 * (a + x)), s2: part * ((a * a + a * x + x * x) / 3.0) }
    }

    #[inline]
    fn whole(&self) -> Mass {
        let (a, b, n) = (self.low, self.high, self.count as f64);
        Mass { n, s1: n * (0.5 * (a + b)), s2: n * ((a * a + a * b + b * b) / 3.0) }
    }
}

/// Prefix sums over the density of a histogram; built once for each tensor, in O(bins).
#[derive(Debug, Clone)]
pub struct Density {
    segments: Vec<Segment>, // rising, not overlapping
    prefix: Vec<Mass>,      // of all segments before; one longer than `segments`
    ranks: Vec<u64>,        // number of values before; one longer than `segments`
    layout: Layout,
    negative: Index,
    positive: Index,
    zero: usize,           // segments of negative values
    first_positive: usize, // segments of negative values and of zeros
}

/// Finds the segment of a bin: for the magnitudes from `first` on, the number of segments below.
#[derive(Debug, Clone, Default)]
struct Index {
    first: usize,
    at: Vec<u32>,
}

impl Density {
    /// The density of the finite values of a histogram.
    pub fn new(histogram: &Histogram) -> Self {
        let layout = histogram.layout();
        let mut negative: Vec<(usize, u64)> = Vec::new();
        let mut positive: Vec<(usize, u64)> = Vec::new();
        for (code, count) in histogram.codes() {
            let (is_negative, magnitude) = layout.split(code);
            if is_negative { &mut negative } else { &mut positive }.push((magnitude, count));
        }
        let clip = Clip {
            layout,
            exact: histogram.is_exact(),
            min: histogram.min().map_or(0.0, f64::from),
            max: histogram.max().map_or(0.0, f64::from),
        };
        let mut segments = Vec::with_capacity(negative.len() + positive.len() + 1);
        segments.extend(negative.iter().rev().map(|&(m, n)| clip.negative(m, n)));
        let zero = segments.len();
        if histogram.zeros() > 0 {
            segments.push(Segment { low: 0.0, high: 0.0, count: histogram.zeros() });
        }
        let first_positive = segments.len();
        segments.extend(positive.iter().map(|&(m, n)| clip.positive(m, n)));

        let mut prefix = Vec::with_capacity(segments.len() + 1);
        let mut ranks = Vec::with_capacity(segments.len() + 1);
        let (mut mass, mut rank) = (Mass::default(), 0u64);
        for segment in &segments {
            prefix.push(mass);
            ranks.push(rank);
            mass = mass + segment.whole();
            rank = rank.saturating_add(segment.count);
        }
        prefix.push(mass);
        ranks.push(rank);
        // Before a negative bin come all of larger magnitude, before a positive one the smaller.
        let negative_index = Index::new(&negative, |_, up_to| zero - up_to);
        let positive_index = Index::new(&positive, |below, _| first_positive + below);
        Self {
            segments,
            prefix,
            ranks,
            layout,
            negative: negative_index,
            positive: positive_index,
            zero,
            first_positive,
        }
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
        self.prefix[self.segments.len()]
    }

    /// The mass below `x`, in O(1). Values equal to `x` are not below.
    #[inline]
    pub fn below(&self, x: f64) -> Mass {
        let k = self.locate(x);
        match self.segments.get(k) {
            Some(segment) => self.prefix[k] + segment.below(x),
            None => self.prefix[k],
        }
    }

    /// Number of values below `x`, whole bins exactly and the part of a bin rounded to nearest.
    pub fn count_below(&self, x: f64) -> u64 {
        let k = self.locate(x);
        let part = self.segments.get(k).map_or(0, |s| (s.below(x).n.round() as u64).min(s.count));
        self.ranks[k].saturating_add(part)
    }

    /// Number of values below or equal to `x`.
    pub fn count_up_to(&self, x: f64) -> u64 {
        let k = self.locate(x);
        let part = match self.segments.get(k) {
            Some(s) if s.low == s.high && s.low == x => s.count,
            Some(s) => (s.below(x).n.round() as u64).min(s.count),
            None => 0,
        };
        self.ranks[k].saturating_add(part)
    }

    /// The first segment that is not wholly below `x`; segments before it are.
    #[inline]
    fn locate(&self, x: f64) -> usize {
        if x > 0.0 {
            let magnitude = self.layout.magnitude_of(x);
            self.positive.get(magnitude, self.first_positive, self.segments.len())
        } else if x < 0.0 {
            self.negative.get(self.layout.magnitude_of(-x), self.zero, 0)
        } else {
            self.zero
        }
    }
}

impl Index {
    /// `before` turns the number of bins below a magnitude, and of those up to it, into the number
    /// of segments before its bin.
    fn new(bins: &[(usize, u64)], before: impl Fn(usize, usize) -> usize) -> Self {
        let (Some(&(first, _)), Some(&(last, _))) = (bins.first(), bins.last()) else {
            return Self::default();
        };
        let mut at = Vec::with_capacity(last - first + 1);
        for (j, &(magnitude, _)) in bins.iter().enumerate() {
            at.resize(magnitude - first, before(j, j) as u32); // the empty bins before this one
            at.push(before(j, j + 1) as u32);
        }
        Self { first, at }
    }

    /// The number of segments before the bin of `magnitude`; `inside` for magnitudes below the
    /// first bin, `outside` for those above the last.
    #[inline]
    fn get(&self, magnitude: usize, inside: usize, outside: usize) -> usize {
        if magnitude < self.first {
            return inside;
        }
        self.at.get(magnitude - self.first).map_or(outside, |&k| k as usize)
    }
}

/// How a bin becomes a segment.
struct Clip {
    layout: Layout,
    exact: bool,
    min: f64,
    max: f64,
}

impl Clip {
    fn positive(&self, magnitude: usize, count: u64) -> Segment {
        let inner = self.layout.inner_edge(magnitude);
        if self.exact {
            return Segment { low: inner, high: inner, count };
        }
        let low = inner.max(self.min);
        let high = self.layout.inner_edge(magnitude + 1).min(self.max);
        match count {
            // A lone value in the bin of an extreme is that extreme.
            1 if high == self.max => Segment { low: high, high, count },
            1 if low == self.min => Segment { low, high: low, count },
            _ => Segment { low, high, count },
        }
    }

    fn negative(&self, magnitude: usize, count: u64) -> Segment {
        let mirrored = Self { min: -self.max, max: -self.min, ..*self };
        let Segment { low, high, .. } = mirrored.positive(magnitude, count);
        Segment { low: -high, high: -low, count }
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
