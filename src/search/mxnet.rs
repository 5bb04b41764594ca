//! The divergences of Apache mxnet's entropy calibration, in float32 as it works them out.
//!
//! Windows about the middle bin are merged to levels. A level's value goes to bins with mass only, the last level
//! extends to the end, and the first bin's own count is missing from the levels. Empty bins of either distribution
//! get 10⁻⁴, which the others give.

use super::single::{divergence, each, total};

const EPSILON: f32 = 1e-4;

/// Above this whole numbers are not all in float32, and it matters in which order they are added.
const EXACT: u64 = 1 << 24;

/// The divergence of each window of `levels` / 2, … bins on either side of the middle one; infinite where there
/// is none.
///
/// Counts are of an odd number of bins, at least `levels`, and below 2^31 in all. O(bins²).
pub fn mxnet_divergences(counts: &[u64], levels: usize) -> Vec<f32> {
    let bins = Bins::new(counts);
    let middle = counts.len() / 2;
    each(levels / 2..counts.len().div_ceil(2), middle, |(p, q): &mut (Vec<f32>, Vec<f32>), half| {
        bins.divergence(middle - half, middle + half + 1, levels, p, q)
    })
}

struct Bins {
    counts: Vec<f32>,
    left: Vec<f32>,   // sums up to each bin, as float32 adds them
    totals: Vec<u64>, // sums before each bin
    full: Vec<u64>,   // bins with mass before each bin
}

impl Bins {
    fn new(counts: &[u64]) -> Self {
        let sums = |of: fn(u64) -> u64| {
            let running = counts.iter().scan(0, |sum, &n| {
                *sum += of(n);
                Some(*sum)
            });
            std::iter::once(0).chain(running).collect()
        };
        let counts_of: Vec<f32> = counts.iter().map(|&n| n as f32).collect();
        let left = counts_of.iter().scan(0.0, |sum, n| {
            *sum += n;
            Some(*sum)
        });
        Self {
            left: left.collect(),
            totals: sums(|n| n),
            full: sums(|n| u64::from(n > 0)),
            counts: counts_of,
        }
    }

    fn divergence(
        &self,
        start: usize,
        end: usize,
        levels: usize,
        p: &mut Vec<f32>,
        q: &mut Vec<f32>,
    ) -> f32 {
        p.clear();
        p.extend_from_slice(&self.counts[start..end]);
        p[0] = self.left[start];
        p[end - start - 1] = self.right(end - 1);
        q.clear();
        q.resize(end - start, 0.0);
        let merged = (end - start) / levels;
        for level in 0..levels {
            let first = start + level * merged;
            let last = if level + 1 == levels { end } else { first + merged };
            let value = self.level(first + usize::from(level == 0), first + merged, last);
            let range = first - start..last - start;
            for (q, &p) in q[range.clone()].iter_mut().zip(&p[range]) {
                *q = if p == 0.0 { 0.0 } else { value };
            }
        }
        if smooth(p) && smooth(q) {
            let sums = (total(p), total(q));
            divergence(p, q, sums)
        } else {
            f32::INFINITY
        }
    }

    /// What lies from a bin on, added in float32.
    fn right(&self, bin: usize) -> f32 {
        let all = self.totals[self.counts.len()];
        if all <= EXACT { (all - self.totals[bin]) as f32 } else { total(&self.counts[bin..]) }
    }

    /// The value of a level's bins; those after `end`, of the last level, are added apart.
    fn level(&self, first: usize, end: usize, last: usize) -> f32 {
        let full = self.full[last] - self.full[first];
        let sum = |from: usize, to: usize| (self.totals[to] - self.totals[from]) as f32;
        if full == 0 { 0.0 } else { (sum(first, end) + sum(end, last)) / full as f32 }
    }
}

/// Gives empty bins a little and takes it from the others; false where mxnet gives up.
fn smooth(values: &mut [f32]) -> bool {
    let full = values.iter().filter(|&&value| value != 0.0).count();
    let taken = EPSILON * (values.len() - full) as f32 / full as f32;
    if full == 0 || taken >= 1.0 {
        return false;
    }
    for value in values {
        *value = if *value == 0.0 { EPSILON } else { *value - taken };
    }
    true
}
