//! Bounds of the divergences that ONNX Runtime's entropy calibration works out in float32.
//!
//! It keeps windows about the middle bin, merges them to levels, gives empty bins of either
//! distribution ε = 10⁻⁴ taken evenly from the others, and sums p ln(p / q) over all bins: for every
//! window anew. Here running totals give the same in O(1) a window, in float64:
//!
//! ```text
//! D = (Σ P ln P − Σ_g (Σ P in g) ln Q_g) / ΣP − ln ΣP + ln ΣQ
//! ```
//!
//! P of a bin that is not empty is its count c less a small t, the same for the whole window, so
//! Σ P ln P is a series in t of totals of c ln c, ln c, 1/c, 1/c², …. Q of a level is a whole number v
//! less a small g, again the same for the whole window, so Σ (Σ P) ln Q is a series in g of totals over levels,
//! which windows share (`chains`). What float32 may differ by is bounded: only windows whose bounds
//! reach below the lowest upper bound need be worked out as the original does.

use super::{
    chains::{Bins, Chains, EPSILON, Level, Record},
    logarithm::{ln, x_ln_x},
};

/// Above this part of a count taken from each bin, the series is not trusted.
const MOST_TAKEN: f64 = 0.05;
/// A rounding of float32, relative.
const SLIP: f64 = 1.0 / (1u64 << 24) as f64;
/// No bounds: the original's own arithmetic must decide.
const OPEN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
/// What the original takes for infinitely bad.
const INFINITE: (f64, f64) = (f64::INFINITY, f64::INFINITY);

/// The least and the most that the divergence of each window in float32 may be: of those that keep
/// `levels` / 2, … bins on either side of the middle one. Without a bound where the original's own
/// arithmetic must decide; infinite where the original takes a window for infinitely bad.
///
/// O(bins² / levels), and never more than O(bins · levels).
pub fn smoothed_divergences(counts: &[u64], levels: usize) -> (Vec<f64>, Vec<f64>) {
    let totals = Totals::new(counts);
    let (middle, half) = (counts.len() / 2, levels / 2);
    let windows: Vec<Window> = (half..=middle)
        .map(|i| Window { start: middle - i, end: (middle + i + 1).min(counts.len()) })
        .collect();
    let mut chains = Chains::new(counts.len());
    windows
        .chunk_by(|a, b| a.merged(levels) == b.merged(levels))
        .flat_map(|alike| {
            let widest = alike[alike.len() - 1];
            let these = (widest.start, alike.len());
            chains.fill(totals.bins(), these, widest.merged(levels), levels);
            alike.iter().map(|&window| totals.bounds(window, levels, &chains)).collect::<Vec<_>>()
        })
        .unzip()
}

/// Bins that are kept.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    end: usize,
}

impl Window {
    /// How many bins become a level.
    fn merged(self, levels: usize) -> usize {
        (self.end - self.start) / levels
    }
}

/// Running totals over the bins, one longer than they.
struct Totals {
    mass: Vec<f64>,
    full: Vec<f64>,        // how many are not empty
    series: [Vec<f64>; 5], // c ln c, ln c, 1/c, 1/c², 1/c³ of those
}

impl Totals {
    fn new(counts: &[u64]) -> Self {
        let running = |of: &dyn Fn(f64) -> f64| {
            let mut sum = 0.0;
            let mut totals = vec![0.0];
            totals.extend(counts.iter().map(|&count| {
                sum += if count == 0 { 0.0 } else { of(count as f64) };
                sum
            }));
            totals
        };
        Self {
            mass: running(&|c| c),
            full: running(&|_| 1.0),
            series: [
                running(&x_ln_x),
                running(&ln),
                running(&|c| 1.0 / c),
                running(&|c| 1.0 / (c * c)),
                running(&|c| 1.0 / (c * c * c)),
            ],
        }
    }

    fn bounds(&self, window: Window, levels: usize, chains: &Chains) -> (f64, f64) {
        let Window { start, end } = window;
        let (width, merged) = (end - start, window.merged(levels));
        if width < 2 || merged == 0 {
            return OPEN;
        }
        // The counts of the outermost two bins, and what is folded into them.
        let total = self.mass[self.mass.len() - 1];
        let (below, above) = (self.mass[start], total - self.mass[end]);
        let inner = [self.mass[start + 1] - self.mass[start], self.mass[end] - self.mass[end - 1]];
        let outer = [inner[0] + below, inner[1] + above];
        let newly = |k: usize| f64::from(u8::from(inner[k] == 0.0 && outer[k] > 0.0));
        let size = width as f64;
        let full = self.full[end] - self.full[start] + newly(0) + newly(1);
        if full == 0.0 {
            return INFINITE;
        }
        let taken = EPSILON * (size - full) / full;
        // The outermost levels, which may be one. The reference has what lies outside, too; the merged
        // distribution has what is left beyond the last level.
        let last = start + levels * merged;
        let (mut left, mut left_full) =
            (self.mass[end] - self.mass[last], self.full[end] - self.full[last]);
        let mut ends = [self.bins().level(start, merged), self.bins().level(last - merged, merged)];
        let ends = &mut ends[..levels.min(2)];
        let outermost = ends.len() - 1;
        ends[outermost].sum += left;
        ends[0].weight += below;
        ends[0].number += newly(0);
        let tail = if last == end {
            let level = &mut ends[outermost];
            (&mut level.weight, &mut level.number)
        } else {
            (&mut left, &mut left_full)
        };
        *tail.0 += above;
        *tail.1 += newly(1);
        let between = match levels {
            ..3 => Record::default(),
            _ => chains.between(start + merged, last - merged),
        };
        let mut whole = between.values;
        let mut filled = levels.saturating_sub(2) as f64 - between.empty;
        for value in ends.iter().map(Level::value) {
            whole += value;
            filled += f64::from(u8::from(value > 0.0));
        }
        let step = merged as f64;
        (whole, filled) = (whole * step, filled * step);
        if taken > MOST_TAKEN {
            return OPEN;
        }
        if filled == 0.0 {
            return INFINITE;
        }
        let given = EPSILON * (size - filled) / filled;
        if given > MOST_TAKEN {
            return OPEN;
        }
        let t = taken;
        let mut cross = between.cross(step, t, given);
        for level in ends.iter() {
            let value = level.value();
            let q = if value > 0.0 { value - given } else { EPSILON };
            cross += (level.weight - t * level.number + EPSILON * (step - level.number)) * ln(q);
        }
        let rest = size - step * levels as f64;
        cross += (left - t * left_full + EPSILON * (rest - left_full)) * ln(EPSILON);
        let entropy = self.entropy(window, t, outer);
        let sum_p = total - t * full + EPSILON * (size - full);
        let sum_q = whole - given * filled + EPSILON * (size - filled);
        let divergence = (entropy - cross) / sum_p - ln(sum_p) + ln(sum_q);
        let error = slip(size, divergence) + left_out(t, given);
        (divergence - error, divergence + error)
    }

    /// Σ P ln P, the outermost bins having these counts.
    fn entropy(&self, Window { start, end }: Window, t: f64, outer: [f64; 2]) -> f64 {
        let p = |c: f64| x_ln_x(if c > 0.0 { c - t } else { EPSILON });
        let between = |totals: &[f64]| totals[end - 1] - totals[start + 1];
        let [a, b, c, d, e] = &self.series;
        let full = between(&self.full);
        between(a) - t * (between(b) + full)
            + t * t * (between(c) / 2.0 + t * (between(d) / 6.0 + t * between(e) / 12.0))
            + ((end - start) as f64 - 2.0 - full) * x_ln_x(EPSILON)
            + p(outer[0])
            + p(outer[1])
    }

    fn bins(&self) -> Bins<'_> {
        Bins { mass: &self.mass, full: &self.full }
    }
}

/// What float32 may make of a divergence over so many bins.
///
/// Sums in pairs of blocks of 128 add a number of roundings to each term; p and q have some more
/// (3.2 each: counts, what is taken, quotient), their quotient one, its logarithm 4 units in the
/// last place. Σ p |ln(p/q)| ≤ D + √(2D), by Pinsker's inequality.
fn slip(size: f64, divergence: f64) -> f64 {
    let blocks = f64::from(u32::BITS - (size as u32 / 128).leading_zeros());
    let sum = 20.0 + blocks;
    let d = divergence.max(0.0) + 1e-5;
    SLIP * ((2.0 * sum + 8.0) + (2.0 * sum + 14.0) * (d + (2.0 * d).sqrt())) * 1.01
}

/// What the series leave out, and the roundings of running totals.
///
/// Relative to ΣP: of Σ P ln P, t⁵/20 (1 + t + …) at most, as no count is below 1. Of ln(v − g), g⁵/5 (1 + g +
/// …), and the fourth power of g times ε for each bin, of which there are 501 for each count at most, as t
/// ≤ 0.05.
fn left_out(t: f64, g: f64) -> f64 {
    let (t2, g2) = (t * t, g * g);
    t2 * t2 * t / 10.0 + g2 * g2 * (g / 4.0 + 501.0 * EPSILON / 3.0) + 1e-9
}
