//! Bounds of the divergences that ONNX Runtime's entropy calibration computes in float32.
//!
//! ONNX Runtime keeps windows around the middle bin and merges each to levels. Empty bins of either
//! distribution get ε = 10⁻⁴, taken evenly from the others. For each window, it sums p ln(p / q)
//! over all bins. Here, prefix sums give the same divergence in float64, in O(1) for each window:
//!
//! ```text
//! D = (Σ P ln P − Σ_g (Σ P in g) ln Q_g) / ΣP − ln ΣP + ln ΣQ
//! ```
//!
//! P of a non-empty bin is its count c minus a small t, the same in the whole window. So Σ P ln P
//! is a series in t, with prefix sums of c ln c, ln c, 1/c, 1/c², …. Q of a level is an integer v
//! minus a small g, the same in the whole window. So Σ (Σ P) ln Q is a series in g, with prefix
//! sums over levels that windows share (`ort_prefix_sums`).
//!
//! The error of float32 is bounded. Only windows whose lower bound is below the lowest upper bound
//! need the original arithmetic: 1.23 → 0.32 ms for the 961 windows of 2048 bins.

use super::ort_prefix_sums::{BinTotals, EPSILON, Level, LevelTotals, SeriesTerms};
use crate::search::math::{ln, x_ln_x};

/// If more than this is taken from each bin, the series is not used.
const MAX_TAKEN: f64 = 0.05;
/// The relative rounding of float32.
const ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;
/// Without bounds: the original arithmetic must decide.
const OPEN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
/// The bounds of a window that the original treats as infinitely bad.
const INFINITE: (f64, f64) = (f64::INFINITY, f64::INFINITY);

/// The lower and the upper bound of the float32 divergence of each window. Windows keep `levels` /
/// 2, … bins on either side of the middle bin. O(bins² / levels), and at most O(bins · levels).
///
/// Bounds are −∞ and ∞ where the original arithmetic must decide, and both ∞ where the original
/// treats a window as infinitely bad.
pub fn ort_divergence_bounds(counts: &[u64], levels: usize) -> (Vec<f64>, Vec<f64>) {
    let totals = Totals::new(counts);
    let (middle, half) = (counts.len() / 2, levels / 2);
    let windows: Vec<Window> = (half..=middle)
        .map(|i| Window { start: middle - i, end: (middle + i + 1).min(counts.len()) })
        .collect();
    let mut level_totals = LevelTotals::new(counts.len());
    windows
        .chunk_by(|a, b| a.merged(levels) == b.merged(levels))
        .flat_map(|alike| {
            let widest = alike[alike.len() - 1];
            let these = (widest.start, alike.len());
            level_totals.fill(totals.bins(), these, widest.merged(levels), levels);
            alike
                .iter()
                .map(|&window| totals.bounds(window, levels, &level_totals))
                .collect::<Vec<_>>()
        })
        .unzip()
}

/// The bins that are kept.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    end: usize,
}

impl Window {
    /// Number of bins of a level.
    fn merged(self, levels: usize) -> usize {
        (self.end - self.start) / levels
    }
}

/// Prefix sums over the bins, one longer than the bins.
struct Totals {
    mass: Vec<f64>,
    full: Vec<f64>,        // number of non-empty bins
    series: [Vec<f64>; 5], // c ln c, ln c, 1/c, 1/c², 1/c³ of these
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

    fn bounds(&self, window: Window, levels: usize, level_totals: &LevelTotals) -> (f64, f64) {
        let Window { start, end } = window;
        let (width, merged) = (end - start, window.merged(levels));
        if width < 2 || merged == 0 {
            return OPEN;
        }
        let reference = self.reference(window);
        let (size, full) = (width as f64, reference.full);
        if full == 0.0 {
            return INFINITE;
        }
        let t = EPSILON * (size - full) / full;
        let outermost = self.outermost(window, levels, &reference);
        let last = start + levels * merged;
        let between = match levels {
            ..3 => SeriesTerms::default(),
            _ => level_totals.between(start + merged, last - merged),
        };
        let mut whole = between.values;
        let mut filled = levels.saturating_sub(2) as f64 - between.empty;
        for value in outermost.levels().iter().map(Level::value) {
            whole += value;
            filled += f64::from(u8::from(value > 0.0));
        }
        let step = merged as f64;
        (whole, filled) = (whole * step, filled * step);
        if t > MAX_TAKEN {
            return OPEN;
        }
        if filled == 0.0 {
            return INFINITE;
        }
        let g = EPSILON * (size - filled) / filled;
        if g > MAX_TAKEN {
            return OPEN;
        }
        let mut cross = between.cross(step, t, g);
        for level in outermost.levels() {
            let value = level.value();
            let q = if value > 0.0 { value - g } else { EPSILON };
            cross += (level.weight - t * level.number + EPSILON * (step - level.number)) * ln(q);
        }
        let rest = size - step * levels as f64;
        let Outermost { rest_mass, rest_full, .. } = outermost;
        cross += (rest_mass - t * rest_full + EPSILON * (rest - rest_full)) * ln(EPSILON);
        let entropy = self.entropy(window, t, reference.outer);
        let sum_p = self.total() - t * full + EPSILON * (size - full);
        let sum_q = whole - g * filled + EPSILON * (size - filled);
        let divergence = (entropy - cross) / sum_p - ln(sum_p) + ln(sum_q);
        let error = float32_error(size, divergence) + series_error(t, g);
        (divergence - error, divergence + error)
    }

    fn total(&self) -> f64 {
        self.mass[self.mass.len() - 1]
    }

    /// The reference distribution of a window: the outermost two bins have the mass outside, too.
    fn reference(&self, Window { start, end }: Window) -> Reference {
        let outside = [self.mass[start], self.total() - self.mass[end]];
        let inner = [self.mass[start + 1] - self.mass[start], self.mass[end] - self.mass[end - 1]];
        let outer = [inner[0] + outside[0], inner[1] + outside[1]];
        let newly = |k: usize| f64::from(u8::from(inner[k] == 0.0 && outer[k] > 0.0));
        let newly = [newly(0), newly(1)];
        let full = self.full[end] - self.full[start] + newly[0] + newly[1];
        Reference { outside, outer, newly, full }
    }

    /// The first and the last level of a window, which may be the same, and the bins after the last
    /// level. The mass outside belongs to the reference only.
    fn outermost(&self, window: Window, levels: usize, reference: &Reference) -> Outermost {
        let Window { start, end } = window;
        let merged = window.merged(levels);
        let Reference { outside: [below, above], newly, .. } = *reference;
        let last = start + levels * merged;
        let (mut rest_mass, mut rest_full) =
            (self.mass[end] - self.mass[last], self.full[end] - self.full[last]);
        let mut ends = [self.bins().level(start, merged), self.bins().level(last - merged, merged)];
        let number = levels.min(2);
        let final_level = number - 1;
        ends[final_level].sum += rest_mass;
        ends[0].weight += below;
        ends[0].number += newly[0];
        let tail = if last == end {
            let level = &mut ends[final_level];
            (&mut level.weight, &mut level.number)
        } else {
            (&mut rest_mass, &mut rest_full)
        };
        *tail.0 += above;
        *tail.1 += newly[1];
        Outermost { ends, number, rest_mass, rest_full }
    }

    /// Σ P ln P, where the outermost two bins have these counts.
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

    fn bins(&self) -> BinTotals<'_> {
        BinTotals { mass: &self.mass, full: &self.full }
    }
}

/// The reference distribution of a window.
struct Reference {
    outside: [f64; 2], // mass below and above the window
    outer: [f64; 2],   // counts of the outermost two bins, with the mass outside
    newly: [f64; 2],   // 1 for an outermost bin that has only mass from outside
    full: f64,         // non-empty bins
}

/// The first and the last level of a window, and the bins after the last level.
struct Outermost {
    ends: [Level; 2],
    number: usize, // of different levels: 1 or 2
    rest_mass: f64,
    rest_full: f64,
}

impl Outermost {
    fn levels(&self) -> &[Level] {
        &self.ends[..self.number]
    }
}

/// The error of float32 in a divergence over `size` bins.
///
/// Pairwise sums of blocks of 128 add some roundings to each term. p and q have 3.2 roundings each
/// (the count, the part taken, the quotient), their quotient one, and its logarithm an error of 4
/// units in the last place. Pinsker's inequality gives Σ p |ln(p/q)| ≤ D + √(2D).
fn float32_error(size: f64, divergence: f64) -> f64 {
    let blocks = f64::from(u32::BITS - (size as u32 / 128).leading_zeros());
    let sum = 20.0 + blocks;
    let d = divergence.max(0.0) + 1e-5;
    ROUNDING * ((2.0 * sum + 8.0) + (2.0 * sum + 14.0) * (d + (2.0 * d).sqrt())) * 1.01
}

/// The omitted terms of the series, and the roundings of prefix sums.
///
/// Relative to ΣP, Σ P ln P omits at most t⁵/20 (1 + t + …), since no count is below 1. ln(v − g)
/// omits g⁵/5 (1 + g + …), and g⁴ times ε for each bin. There are at most 501 bins for each count,
/// since t ≤ 0.05.
fn series_error(t: f64, g: f64) -> f64 {
    let (t2, g2) = (t * t, g * g);
    t2 * t2 * t / 10.0 + g2 * g2 * (g / 4.0 + 501.0 * EPSILON / 3.0) + 1e-9
}
