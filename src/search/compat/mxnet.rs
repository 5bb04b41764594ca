//! The divergences of Apache `MXNet`'s entropy calibration, in float32 as `MXNet` computes them.
//!
//! Windows around the middle bin are merged to levels. Only bins with mass get the value of their
//! level. The last level extends to the end, and the levels do not include the count of the first
//! bin. Empty bins of either distribution get 10⁻⁴, which is taken from the others.

use super::float32_sum::{divergence, divergences, total};

const EPSILON: f32 = 1e-4;

/// Above this number not all integers are float32, so the order of additions matters.
const EXACT: u64 = 1 << 24;

/// The divergence of each window of `levels` / 2, … bins on either side of the middle bin; infinite
/// where `MXNet` has none. O(bins²).
///
/// There must be an odd number of bins, at least `levels`, with fewer than 2^31 values in total.
pub fn mxnet_divergences(counts: &[u64], levels: usize) -> Vec<f32> {
    let bins = MxnetBins::new(counts);
    let middle = counts.len() / 2;
    divergences(
        levels / 2..counts.len().div_ceil(2),
        middle,
        |(p, q): &mut (Vec<f32>, Vec<f32>), half| {
            bins.divergence(middle - half, middle + half + 1, levels, p, q)
        },
    )
}

struct MxnetBins {
    counts: Vec<f32>,
    left: Vec<f32>,   // sums up to each bin, added in float32
    totals: Vec<u64>, // sums before each bin
    full: Vec<u64>,   // non-empty bins before each bin
}

impl MxnetBins {
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

    /// The sum from a bin on, added in float32.
    fn right(&self, bin: usize) -> f32 {
        let all = self.totals[self.counts.len()];
        if all <= EXACT { (all - self.totals[bin]) as f32 } else { total(&self.counts[bin..]) }
    }

    /// The value of the bins of a level. Bins of the last level after `end` are added separately.
    fn level(&self, first: usize, end: usize, last: usize) -> f32 {
        let full = self.full[last] - self.full[first];
        let sum = |from: usize, to: usize| (self.totals[to] - self.totals[from]) as f32;
        if full == 0 { 0.0 } else { (sum(first, end) + sum(end, last)) / full as f32 }
    }
}

/// Gives empty bins a little and takes it from the others; false where `MXNet` gives up.
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
