//! The cost Σ |x − x̂|^p of many evenly spaced grids over one density, for searches.
//!
//! In steps, the cost of a value between the outermost levels is |r|^p with r = u − round(u): a mean
//! μ = ½^p / (p + 1) and a part that repeats with every step, whose integral
//! G(r) = r (|r|^p − ½^p) / (p + 1) is zero in the middle between levels. Integrated by parts, a
//! density of constant pieces costs
//!
//! ```text
//! μ · (values inside) + Σ over edges e of (rate before e − rate after e) · G(e / Δ)
//! ```
//!
//! so that an edge is one polynomial, without a branch, in vector operations. What lies within a
//! small part of a step becomes two points with the same mean and variance, which cost |r|^p; so
//! the edges are those of segments that are wide beside a step, which are few. Beyond the outermost levels nothing
//! repeats: there it goes segment by segment.

use std::{borrow::Cow, cell::OnceCell, f64::consts::PI};

use super::{cost::Cost, optimum::Stage};
use crate::{
    Density, Grid, Segment,
    simd::{Work, dispatch},
};

/// In steps: what lies closer together is joined.
const NARROW: f64 = 1.0 / 64.0;
/// Mantissa bits that the early stages see.
const ROUGH: u32 = 4;
const FINER: u32 = 6;
/// Sums that are kept side by side: two vectors of four, whatever the processor has.
const LANES: usize = 8;
/// Degree of the polynomial that stands for |r|^p: off by 10⁻⁵ of ½^p for
/// p = 2.4, by 3 · 10⁻⁴ at worst.
const DEGREE: usize = 11;

/// A density, prepared for the cost of as many grids as a search has.
pub(super) struct EvenCosts<'a> {
    cost: Cost,
    norm: Norm,
    rough: Detail<'a>,
    finer: Detail<'a>,
    all: Detail<'a>,
}

impl<'a> EvenCosts<'a> {
    pub(super) fn new(density: &'a Density, p: f64) -> Self {
        let cost = Cost::new(p);
        Self {
            rough: Detail::new(density.thinned(ROUGH, 0.0).into(), &cost),
            finer: Detail::new(density.thinned(FINER, 0.0).into(), &cost),
            all: Detail::new(density.segments().into(), &cost),
            norm: Norm::new(p),
            cost,
        }
    }

    /// The sum of the costs of all values; on less detail in early stages.
    pub(super) fn of(&self, stage: Stage, grid: Grid) -> f64 {
        let detail = match stage {
            Stage::Coarse => &self.rough,
            Stage::Dense => &self.finer,
            Stage::Fine => &self.all,
        };
        let scale = f64::from(grid.scale());
        let (low, high) = grid.ends();
        // Where the outermost cells would end if others followed.
        let inside = Inside { from: (low - 0.5) * scale, to: (high + 0.5) * scale, scale };
        let level = detail.level(grid.scale());
        let sum = level.inside(&self.norm, inside) + level.outside(&self.cost, inside);
        sum * libm::pow(scale, self.norm.p) + detail.around_zero(&self.cost, 0.5 * scale)
    }
}

/// Where the cost repeats with every step.
#[derive(Clone, Copy)]
struct Inside {
    from: f64,
    to: f64,
    scale: f64,
}

/// Segments, and what becomes of them beside steps of each octave.
struct Detail<'a> {
    segments: Cow<'a, [Segment]>,
    inner: Vec<f64>,              // Σ |x|^p of the segments between zero and this one
    levels: Vec<OnceCell<Level>>, // by the exponent of the scale
}

impl<'a> Detail<'a> {
    fn new(segments: Cow<'a, [Segment]>, cost: &Cost) -> Self {
        let mut inner = vec![0.0; segments.len()];
        let zero = segments.partition_point(|s| s.low < 0.0);
        let mut sum = 0.0;
        for (inner, s) in inner[..zero].iter_mut().zip(&segments[..zero]).rev() {
            *inner = sum;
            sum += distance_to_zero(cost, s, s.low, s.high);
        }
        sum = 0.0;
        for (inner, s) in inner[zero..].iter_mut().zip(&segments[zero..]) {
            *inner = sum;
            sum += distance_to_zero(cost, s, s.low, s.high);
        }
        Self { segments, inner, levels: vec![OnceCell::new(); 256] }
    }

    /// Σ |x|^p of what is represented by zero. Where a range is wide beside the values, that is
    /// most of them, and all within a small part of a step: so it has sums of its own.
    fn around_zero(&self, cost: &Cost, half: f64) -> f64 {
        let first = self.segments.partition_point(|s| s.high < -half);
        let last = self.segments.partition_point(|s| s.low < half);
        let part = |k: usize| {
            let s = &self.segments[k];
            self.inner[k] + distance_to_zero(cost, s, s.low.max(-half), s.high.min(half))
        };
        let lower = self.segments.get(first).is_some_and(|s| s.low < 0.0);
        let upper = last > 0 && self.segments[last - 1].high > 0.0;
        (if lower { part(first) } else { 0.0 }) + if upper { part(last - 1) } else { 0.0 }
    }

    fn level(&self, scale: f32) -> &Level {
        let octave = scale.to_bits() >> 23;
        let width = NARROW * f64::from(f32::from_bits(octave << 23));
        self.levels[octave as usize].get_or_init(|| Level::new(&self.segments, width))
    }
}

/// A density of points, and of constant pieces between edges.
#[derive(Clone, Default)]
struct Level {
    points: Vec<f64>, // rising
    weights: Vec<f64>,
    edges: Vec<f64>,   // rising
    changes: Vec<f64>, // rate before the edge − rate after it
    rates: Vec<f64>,   // after the edge
    mass: Vec<f64>,    // of the pieces before the edge
}

impl Level {
    /// Joins what lies within `width`.
    fn new(segments: &[Segment], width: f64) -> Self {
        let mut level = Self::default();
        let mut rest = segments;
        while let Some(first) = rest.first() {
            let near = rest.iter().take_while(|s| s.high - first.low <= width).count();
            let (group, others) = rest.split_at(near.max(1));
            if near == 0 {
                level.piece(first.low, first.high, first.count as f64);
            } else {
                level.group(group, width);
            }
            rest = others;
        }
        level
    }

    /// An even density, or two points, of the same mean and variance.
    fn group(&mut self, group: &[Segment], width: f64) {
        let (low, high) = (group[0].low, group[group.len() - 1].high);
        let (mut n, mut first, mut second) = (0.0, 0.0, 0.0);
        for segment in group {
            let (a, b, count) = (segment.low - low, segment.high - low, segment.count as f64);
            n += count;
            first += count * (0.5 * (a + b));
            second += count * ((a * a + a * b + b * b) / 3.0);
        }
        let mean = first / n;
        let spread = (second / n - mean * mean).max(0.0).sqrt();
        let mean = low + mean;
        // An even density has a reach of √3 times its standard deviation.
        let reach = spread * f64::sqrt(3.0);
        if high == low {
            self.points.push(low);
            self.weights.push(n);
        } else if reach < 0.125 * width {
            self.points.extend([(mean - spread).max(low), (mean + spread).min(high)]);
            self.weights.extend([0.5 * n; 2]);
        } else {
            self.piece((mean - reach).max(low), (mean + reach).min(high), n);
        }
    }

    fn piece(&mut self, low: f64, high: f64, count: f64) {
        let rate = count / (high - low);
        let before = self.mass.last().copied().unwrap_or(0.0);
        if self.edges.last() == Some(&low)
            && let (Some(change), Some(after)) = (self.changes.last_mut(), self.rates.last_mut())
        {
            *change -= rate;
            *after = rate;
        } else {
            self.edges.push(low);
            self.changes.push(-rate);
            self.rates.push(rate);
            self.mass.push(before);
        }
        self.edges.push(high);
        self.changes.push(rate);
        self.rates.push(0.0);
        self.mass.push(before + count);
    }

    /// The cost of what lies inside, but for the cell of zero; in steps.
    fn inside(&self, norm: &Norm, inside: Inside) -> f64 {
        let Inside { from, to, scale } = inside;
        let half = 0.5 * scale;
        let (points, edges) = (|x| below(&self.points, x), |x| below(&self.edges, x));
        let mut sums = [0.0; 2];
        for (from, to) in [(from, -half), (half, to)] {
            let (points, edges) = (points(from)..points(to), edges(from)..edges(to));
            let sum = |integral, at, factors| {
                dispatch(Sum { norm, inverse: 1.0 / scale, integral, at, factors })
            };
            sums[0] += sum(false, &self.points[points.clone()], &self.weights[points]);
            sums[1] += sum(true, &self.edges[edges.clone()], &self.changes[edges]) * scale;
            sums[1] += norm.half * (self.mass_below(to) - self.mass_below(from));
        }
        sums[0] + sums[1] * norm.inverse
    }

    /// The rate before an edge.
    fn rate(&self, edge: usize) -> f64 {
        edge.checked_sub(1).map_or(0.0, |last| self.rates[last])
    }

    /// The mass of the pieces below a number.
    fn mass_below(&self, x: f64) -> f64 {
        match below(&self.edges, x).checked_sub(1) {
            Some(last) => self.mass[last] + self.rates[last] * (x - self.edges[last]),
            None => 0.0,
        }
    }

    /// The cost of what lies beyond the outermost cells; in steps.
    fn outside(&self, cost: &Cost, inside: Inside) -> f64 {
        let Inside { from, to, scale } = inside;
        let (i, j) = (below(&self.points, from), below(&self.points, to));
        let (k, l) = (below(&self.edges, from), below(&self.edges, to));
        let inverse = 1.0 / scale;
        let low = |x: f64| (from - x) * inverse + 0.5;
        let high = |x: f64| (x - to) * inverse + 0.5;
        let points = |sum: f64, (steps, n): (f64, &f64)| sum + n * cost.power(steps);
        let lower = self.points[..i].iter().map(|&x| low(x)).zip(&self.weights);
        let upper = self.points[j..].iter().map(|&x| high(x)).zip(&self.weights[j..]);
        let sum = upper.fold(lower.fold(0.0, points), points);
        // Outwards from edge to edge, the integral from the outermost level on.
        let start = cost.primitive(0.5);
        let pieces = |(sum, before): (f64, f64), (steps, rate): (f64, f64)| {
            let here = cost.primitive(steps);
            (sum + rate * (here - before), here)
        };
        let lower = (0..k).rev().map(|k| (low(self.edges[k]), self.rates[k]));
        let (lower, _) = lower.fold((0.0, start), pieces);
        let upper = self.edges[l..].iter().enumerate().map(|(k, &x)| (high(x), self.rate(l + k)));
        let (upper, _) = upper.fold((0.0, start), pieces);
        sum + (lower + upper) * scale
    }
}

/// Σ |x|^p of what a segment on one side of zero has from `low` to `high`.
fn distance_to_zero(cost: &Cost, segment: &Segment, low: f64, high: f64) -> f64 {
    let n = segment.count as f64;
    if segment.low == segment.high {
        return n * cost.power(low.abs());
    }
    let integral = cost.primitive(high.abs()) - cost.primitive(low.abs());
    n * integral.abs() / (segment.high - segment.low)
}

/// How many of rising numbers lie below `x`.
fn below(numbers: &[f64], x: f64) -> usize {
    numbers.partition_point(|&number| number < x)
}

/// The polynomial for |r|^p, |r| ≤ ½, in 4 |r| − 1.
struct Norm {
    p: f64,
    half: f64,    // its value at ½
    inverse: f64, // 1 / (p + 1)
    coefficients: [f64; DEGREE + 1],
}

impl Norm {
    /// Interpolates at Chebyshev's points, both ends among them.
    fn new(p: f64) -> Self {
        const N: usize = DEGREE;
        let angle = |k: usize| PI * k as f64 / N as f64;
        let halved = |k: usize| if k == 0 || k == N { 0.5 } else { 1.0 };
        let at: [f64; N + 1] = std::array::from_fn(|k| {
            // 0 and ½ exactly: elsewhere the cosine is as good.
            let r = if k == N { 0.0 } else { 0.25 * (1.0 + libm::cos(angle(k))) };
            libm::pow(r, p)
        });
        let mut coefficients = [0.0; N + 1];
        // Chebyshev's polynomials by their recurrence, as coefficients of powers.
        let (mut before, mut here) = ([0.0; N + 1], [0.0; N + 1]);
        here[0] = 1.0;
        for j in 0..=N {
            let term = |k: usize| halved(k) * at[k] * libm::cos(angle(j * k % (2 * N)));
            let c = halved(j) * (2.0 / N as f64) * (0..=N).map(term).sum::<f64>();
            let mut next = [0.0; N + 1];
            for k in 0..=N {
                coefficients[k] += c * here[k];
                let raised = if k == 0 { 0.0 } else { here[k - 1] };
                next[k] = if j == 0 { raised } else { 2.0 * raised - before[k] };
            }
            (before, here) = (here, next);
        }
        let mut norm = Self { p, half: 0.0, inverse: 1.0 / (p + 1.0), coefficients };
        norm.half = norm.of(0.5);
        norm
    }

    #[inline(always)]
    fn of(&self, r: f64) -> f64 {
        // By pairs, which need not wait for each other as in Horner's order.
        let t = 4.0 * r - 1.0;
        let (t2, c) = (t * t, &self.coefficients);
        let pair = |k: usize| c[k] + c[k + 1] * t;
        let four = |k: usize| pair(k) + pair(k + 2) * t2;
        let t4 = t2 * t2;
        four(0) + (four(4) + four(8) * t4) * t4
    }
}

/// Σ factor · |r|^p, or of factor · r (|r|^p − ½^p), r being the distance to the next level in steps.
#[derive(Clone, Copy)]
struct Sum<'a> {
    norm: &'a Norm,
    inverse: f64,
    integral: bool,
    at: &'a [f64],
    factors: &'a [f64],
}

impl Sum<'_> {
    #[inline(always)]
    fn term(&self, x: f64, factor: f64) -> f64 {
        const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: adding it leaves no fraction
        let u = x * self.inverse;
        let r = u - ((u + MAGIC) - MAGIC);
        let power = self.norm.of(r.abs());
        if self.integral { factor * (r * (power - self.norm.half)) } else { factor * power }
    }
}

impl Work for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        // The lanes are written out, so that the order of adding is the same on all processors.
        let mut sums = [0.0; LANES];
        let (at, at_rest) = self.at.as_chunks::<LANES>();
        let (factors, factors_rest) = self.factors.as_chunks::<LANES>();
        for (at, factors) in at.iter().zip(factors) {
            for lane in 0..LANES {
                sums[lane] += self.term(at[lane], factors[lane]);
            }
        }
        for ((sum, &x), &factor) in sums.iter_mut().zip(at_rest).zip(factors_rest) {
            *sum += self.term(x, factor);
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{EvenCosts, Norm};
    use crate::{
        Density, Histogram, QuantFormat, Range, Scaling,
        search::{cost::Cost, optimum::Stage},
    };

    #[test]
    fn the_polynomial_is_near_the_power() {
        for (p, limit) in [(1.0, 1e-14), (1.3, 3e-4), (2.0, 1e-14), (2.4, 1e-5), (4.0, 1e-14)] {
            let norm = Norm::new(p);
            assert!(norm.of(0.0).abs() < 1e-15 && (norm.half - libm::pow(0.5, p)).abs() < 1e-15);
            for i in 0..=1000 {
                let r = f64::from(i) / 2000.0;
                let (found, want) = (norm.of(r), libm::pow(r, p));
                assert!((found - want).abs() <= limit * libm::pow(0.5, p), "{r}^{p}: {found}");
            }
        }
    }

    #[test]
    fn the_cost_by_edges_is_the_cost_by_segments() {
        let spread: Vec<f32> =
            (0..4000).map(|i| ((i * 37 % 4001) as f32 - 1500.0) * 7e-4).collect();
        let whole: Vec<f32> = (0..90).map(|i| (i % 30) as f32 - 7.0).collect();
        let outlier: Vec<f32> = spread.iter().copied().chain([0.0, 0.0, 900.37]).collect();
        let above: Vec<f32> = spread.iter().map(|x| x + 2.0).collect();
        let below: Vec<f32> = above.iter().map(|x| -x).collect();
        for values in [&spread, &whole, &outlier, &above, &below, &vec![0.37; 3], &vec![0.0]] {
            let density = Density::new(&Histogram::of(values));
            let (min, max) = (density.min().expect("values"), density.max().expect("values"));
            for p in [1.0, 1.7, 2.0, 2.4, 4.0] {
                let (costs, cost) = (EvenCosts::new(&density, p), Cost::new(p));
                for name in ["int2", "uint4", "int8", "uint8", "uint16"] {
                    let format = QuantFormat::parse(name).expect("known");
                    for (left, right) in [(1.0, 1.0), (0.3, 0.9), (0.01, 0.2), (1.5, 0.0)] {
                        let range = Range { low: min.min(0.0) * left, high: max.max(0.0) * right };
                        for scaling in [Scaling::SYMMETRIC, Scaling::AFFINE] {
                            let grid = format.grid(range, scaling);
                            let found = costs.of(Stage::Fine, grid);
                            let want = cost.by_pieces(density.segments(), grid);
                            // Of few values on levels or between them, what the polynomial is off.
                            let step = libm::pow(f64::from(grid.scale()), p);
                            let noise = 1e-5 * step * density.total().n;
                            let told =
                                format!("{name} {scaling:?} {p} {left} {right}: {found} {want}");
                            assert!((found - want).abs() <= 1e-3 * want + noise, "{told}");
                        }
                    }
                }
            }
        }
    }
}
