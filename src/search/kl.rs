//! The range whose quantised distribution diverges least from the clipped one.
//!
//! For a candidate that keeps the first k of n equal bins (Migacz, "8-bit Inference with `TensorRT`",
//! 2017): the reference P is those bins, with everything outside folded into the last of them; Q is
//! the inside mass, merged to as many groups as the format has levels, each group's mass spread
//! evenly over its non-empty bins. The candidate with the least KL(P‖Q) wins, the widest among
//! equals. Where the last kept bin is empty but mass lies outside, Q has no probability where P has
//! some: the divergence is infinite, and the candidate is never chosen before a finite one.
//!
//! Written out, with T = ΣP, I = ΣQ, h the bins, group sums `S_g` and non-empty counts `z_g`:
//!
//! ```text
//! KL = (Σ P ln P − Σ_g S_g ln(S_g / z_g) − outside · ln(S_last / z_last)) / T + ln(I / T)
//! ```
//!
//! Σ P ln P, `S_g` and `z_g` are differences of prefix sums of h ln h, h and [h > 0], so a candidate
//! costs O(levels), where the textbook loop visits every bin.

use crate::{Density, Histogram, QuantFormat, Range, error::Result, histogram::edge};

/// The range of least divergence, on a view of `num_bins` equal bins.
///
/// One-sided over the magnitudes for symmetric scaling (2^(bits−1) levels), and over the values for
/// affine scaling of data on one side of zero (2^bits levels). Affine scaling of data on both sides
/// searches both ends. O(`num_bins` · levels).
///
/// # Errors
/// [`Error::NumBins`](crate::Error::NumBins) for no bins or more than 2^24.
pub fn kl(
    histogram: &Histogram,
    num_bins: usize,
    format: QuantFormat,
    symmetric: bool,
) -> Result<Range> {
    let density = Density::new(histogram);
    let (min, max) = (density.min().unwrap_or(0.0), density.max().unwrap_or(0.0));
    if symmetric {
        let levels = 1 << (format.bits() - 1);
        let t = threshold(&Density::new(&histogram.magnitudes()), num_bins, levels)?;
        return Ok(Range::symmetric(t));
    }
    let levels = 1 << format.bits();
    if min >= 0.0 {
        return Ok(Range { low: 0.0, high: threshold(&density, num_bins, levels)? });
    }
    if max <= 0.0 {
        let mirrored = Density::new(&histogram.magnitudes());
        return Ok(Range { low: -threshold(&mirrored, num_bins, levels)?, high: 0.0 });
    }
    Ok(two_sided(&density.rebin(num_bins, min, max)?, levels, min, max))
}

/// The upper end of the best candidate, for values that are not negative.
fn threshold(density: &Density, num_bins: usize, levels: usize) -> Result<f64> {
    let max = density.max().unwrap_or(0.0);
    let counts = density.rebin(num_bins, 0.0, max)?;
    let first = levels.min(num_bins);
    let divergence = divergences(&counts, levels);
    let mut best = (f64::INFINITY, num_bins);
    for (k, &d) in divergence.iter().enumerate() {
        // The widest wins among equals, so later candidates need only be as good.
        if d <= best.0 {
            best = (d, first + k);
        }
    }
    Ok(edge(best.1, num_bins, 0.0, max))
}

/// KL(P‖Q) of every candidate that keeps the first `levels`, `levels` + 1, … of `counts`, in nats.
/// Fewer bins than levels leave the one candidate that keeps all.
pub fn divergences(counts: &[u64], levels: usize) -> Vec<f64> {
    let sums = Sums::new(counts);
    let first = levels.min(counts.len());
    (first..=counts.len()).map(|end| sums.divergence(0, end, levels)).collect()
}

/// Prefix sums over uniform bins.
struct Sums {
    mass: Vec<f64>,      // Σ h before bin k
    entropy: Vec<f64>,   // Σ h ln h before bin k
    non_empty: Vec<u32>, // Σ [h > 0] before bin k
}

impl Sums {
    fn new(counts: &[u64]) -> Self {
        let mut sums = Self { mass: vec![0.0], entropy: vec![0.0], non_empty: vec![0] };
        let (mut mass, mut entropy, mut non_empty) = (0.0, 0.0, 0);
        for &count in counts {
            let h = count as f64;
            mass += h;
            entropy += x_ln_x(h);
            non_empty += u32::from(count > 0);
            sums.mass.push(mass);
            sums.entropy.push(entropy);
            sums.non_empty.push(non_empty);
        }
        sums
    }

    /// The divergence of keeping bins `start`..`end`, in `levels` groups.
    fn divergence(&self, start: usize, end: usize, levels: usize) -> f64 {
        let total = self.mass[self.mass.len() - 1];
        let inside = self.mass[end] - self.mass[start];
        if total == 0.0 {
            return 0.0;
        }
        if inside == 0.0 {
            return f64::INFINITY;
        }
        let width = end - start;
        let groups = levels.min(width);
        let (below, above) = (self.mass[start], total - self.mass[end]);
        // Σ P ln P: that of the inside bins, with the outermost two replaced by their folded mass.
        let mut p = self.entropy[end] - self.entropy[start];
        for (bin, outside) in [(start, below), (end - 1, above)] {
            if outside > 0.0 {
                let h = self.mass[bin + 1] - self.mass[bin];
                if h == 0.0 {
                    return f64::INFINITY;
                }
                p += x_ln_x(h + outside) - x_ln_x(h);
            }
        }
        // Σ P ln Q over the groups; P differs from the inside mass in the outermost bins only.
        let mut q = 0.0;
        let mut previous = start;
        for g in 0..groups {
            let next = start + ((g + 1) * width).div_ceil(groups); // bin k is in ⌊k · groups / width⌋
            let mass = self.mass[next] - self.mass[previous];
            if mass > 0.0 {
                let bins = f64::from(self.non_empty[next] - self.non_empty[previous]);
                let mut weight = mass;
                weight += if g == 0 { below } else { 0.0 };
                weight += if g == groups - 1 { above } else { 0.0 };
                q += weight * (mass / bins).ln();
            }
            previous = next;
        }
        ((p - q) / total + (inside / total).ln()).max(0.0)
    }
}

fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

/// The best window around zero: coarse over both ends, then finer and finer about the best.
fn two_sided(counts: &[u64], levels: usize, min: f64, max: f64) -> Range {
    let n = counts.len();
    let sums = Sums::new(counts);
    // The bin of zero; windows contain it, and at least as many bins as there are levels.
    let zero = ((-min / (max - min)) * n as f64) as usize;
    let zero = zero.min(n - 1);
    let least = levels.min(n);
    let (first, last) = (start_of_mass(counts), end_of_mass(counts));
    let mut best = (f64::INFINITY, 0, n);
    let consider = |start: usize, end: usize, best: &mut (f64, usize, usize)| {
        // Windows that end in empty bins diverge without bound; shrunk to the mass they are finite.
        let (start, end) = (first[start].min(zero), last[end].max(zero + 1));
        if end - start >= least || (start, end) == (0, n) {
            let d = sums.divergence(start, end, levels);
            if d < best.0 {
                *best = (d, start, end);
            }
        }
    };
    consider(0, n, &mut best);
    let mut stride = n.div_ceil(32).next_power_of_two();
    let (mut starts, mut ends) = ((0, zero), (zero + 1, n));
    loop {
        for start in (starts.0..=starts.1).step_by(stride) {
            // From the widest inwards, so that the widest wins among equals.
            for end in (ends.0..=ends.1).rev().step_by(stride) {
                consider(start, end, &mut best);
            }
        }
        if stride == 1 {
            break;
        }
        let reach = 2 * stride;
        starts = (best.1.saturating_sub(reach), (best.1 + reach).min(zero));
        ends = (best.2.saturating_sub(reach).max(zero + 1), (best.2 + reach).min(n));
        stride = (stride / 4).max(1);
    }
    Range { low: edge(best.1, n, min, max), high: edge(best.2, n, min, max) }
}

/// For each bin, the first bin from there on that is not empty.
fn start_of_mass(counts: &[u64]) -> Vec<usize> {
    let mut next: Vec<usize> = (0..counts.len()).collect();
    for k in (0..counts.len() - 1).rev() {
        if counts[k] == 0 {
            next[k] = next[k + 1];
        }
    }
    next
}

/// For each end of a window, the end of the last bin before it that is not empty.
fn end_of_mass(counts: &[u64]) -> Vec<usize> {
    let mut ends: Vec<usize> = (0..=counts.len()).collect();
    for k in 1..=counts.len() {
        if counts[k - 1] == 0 {
            ends[k] = ends[k - 1];
        }
    }
    ends
}
