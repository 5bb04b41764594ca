//! Analytic clipping: the best threshold for a distribution of known form.
//!
//! ACIQ (Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional networks for
//! rapid-deployment", `NeurIPS` 2019): on [−α, α] in 2^M cells the expected squared error of a
//! distribution with spread b or σ is, in units of that spread,
//!
//! ```text
//! Laplace:  2 e^(−a) + a² / (3 · 4^M)                                      (their equation 6)
//! Gauss:    (1 + a²) erfc(a/√2) − √(2/π) a e^(−a²/2) + a² / (3 · 4^M)     (their equation 5)
//! ```
//!
//! Setting the derivative to zero gives a = W₀(3 · 4^M) for Laplace, W₀ being Lambert's function,
//! and a · erfc(a/√2) − √(2/π) e^(−a²/2) + a / (3 · 4^M) = 0 for Gauss, whose left side rises with
//! a. The half forms, for values on one side of zero, have the threshold of one bit more.
//!
//! Floating formats have no even steps: there the expected error of the fitted distribution is
//! integrated over their real levels and minimised numerically.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use libm::{erf, erfc, exp, exp2, expm1};

use crate::{Density, FloatFormat, Histogram, Mass, Moments, QuantFormat, Range, Scaling};

/// A form of distribution. The half forms live on one side of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// normal, about the mean
    Gauss,
    /// double exponential, about the mean
    Laplace,
    /// a normal about zero of which one side is kept, as a `ReLU` leaves it
    HalfGauss,
    /// exponential from zero on
    HalfLaplace,
}

impl Distribution {
    /// All of them, full forms first.
    pub const ALL: [Self; 4] = [Self::Gauss, Self::Laplace, Self::HalfGauss, Self::HalfLaplace];

    fn is_half(self) -> bool {
        matches!(self, Self::HalfGauss | Self::HalfLaplace)
    }
}

/// A distribution fitted to the values by its moments, and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// the form
    pub distribution: Distribution,
    /// the middle: the mean for full forms, 0 for half forms
    pub centre: f64,
    /// σ of a Gauss, b of a Laplace; of the magnitudes that are not zero for half forms
    pub spread: f64,
    /// largest difference of the two cumulative distributions (Kolmogorov), 0…1; exact zeros,
    /// which a `ReLU` makes, are left out for half forms
    pub distance: f64,
}

/// Fits one form. `None` without values, without spread, or where a half form meets values on
/// both sides of zero.
pub fn fit(histogram: &Histogram, distribution: Distribution) -> Option<Fit> {
    let density = Density::new(histogram);
    if distribution.is_half() {
        fit_half(histogram, &density, distribution)
    } else {
        fit_full(&density, &density.moments(), distribution)
    }
}

/// The form that fits best: the least Kolmogorov distance, the earlier in [`Distribution::ALL`]
/// among equals.
pub fn best_fit(histogram: &Histogram) -> Option<Fit> {
    let density = Density::new(histogram);
    let moments = density.moments();
    let fits = Distribution::ALL.into_iter().filter_map(|distribution| {
        if distribution.is_half() {
            fit_half(histogram, &density, distribution)
        } else {
            fit_full(&density, &moments, distribution)
        }
    });
    fits.min_by(|a, b| a.distance.total_cmp(&b.distance))
}

fn fit_full(density: &Density, moments: &Moments, distribution: Distribution) -> Option<Fit> {
    let spread = match distribution {
        Distribution::Gauss => moments.std,
        _ => moments.mean_abs_deviation,
    };
    Fit { distribution, centre: moments.mean, spread, distance: 0.0 }.judged(density, 0)
}

fn fit_half(histogram: &Histogram, density: &Density, distribution: Distribution) -> Option<Fit> {
    if density.min()? < 0.0 && density.max()? > 0.0 {
        return None;
    }
    let magnitudes = Density::of_magnitudes(histogram);
    let n = magnitudes.total().n - histogram.zeros() as f64;
    let spread = match distribution {
        Distribution::HalfGauss => (magnitudes.total().s2 / n).sqrt(),
        _ => magnitudes.total().s1 / n,
    };
    Fit { distribution, centre: 0.0, spread, distance: 0.0 }.judged(&magnitudes, histogram.zeros())
}

/// The threshold in units of the spread, for 2^`bits` cells.
pub fn threshold(distribution: Distribution, bits: u32) -> f64 {
    let bits = if distribution.is_half() { bits + 1 } else { bits };
    let levels = libm::ldexp(1.0, bits as i32);
    let cells = 3.0 * levels * levels;
    match distribution {
        Distribution::Laplace | Distribution::HalfLaplace => lambert_w::lambert_w0(cells),
        Distribution::Gauss | Distribution::HalfGauss => gauss_root(cells),
    }
}

/// The share of a full form that lies beyond its threshold, on both sides together.
pub fn share_beyond(distribution: Distribution, bits: u32) -> f64 {
    let a = threshold(distribution, bits);
    match distribution {
        Distribution::Laplace | Distribution::HalfLaplace => exp(-a),
        Distribution::Gauss | Distribution::HalfGauss => erfc(a * FRAC_1_SQRT_2),
    }
}

/// The root of a · erfc(a/√2) − √(2/π) e^(−a²/2) + a / `cells`, by halving: the function rises.
fn gauss_root(cells: f64) -> f64 {
    let rises =
        |a: f64| a * erfc(a * FRAC_1_SQRT_2) - (2.0 / PI).sqrt() * exp(-0.5 * a * a) + a / cells;
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if rises(middle) < 0.0 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The range by a fitted distribution; never wider than the data.
///
/// Full forms reach to either side of the mean; symmetric scaling takes the further end. Half
/// forms start at zero; symmetric scaling leaves them half of the codes, which is one bit less.
pub fn aciq(density: &Density, fit: Fit, format: QuantFormat, scaling: Scaling) -> Range {
    let a = match format {
        QuantFormat::Int(_) => {
            let lost = u32::from(fit.distribution.is_half() && scaling.symmetric);
            threshold(fit.distribution, format.bits() - lost)
        }
        QuantFormat::Float(float) => fit.float_threshold(float),
    };
    within(density, fit, a * fit.spread, scaling.symmetric || format.int().is_none())
}

/// The range by the short formula α = √(2/π) · σ · √(ln 2^bits), about the mean, or from zero on
/// for a half form. It is no optimum of anything: see the methods' documentation for how far off.
pub fn closed_form(
    density: &Density,
    fit: Fit,
    std: f64,
    format: QuantFormat,
    scaling: Scaling,
) -> Range {
    let bits = f64::from(format.bits());
    let alpha = (2.0 / PI).sqrt() * std * (bits * std::f64::consts::LN_2).sqrt();
    within(density, fit, alpha, scaling.symmetric || format.int().is_none())
}

fn within(density: &Density, fit: Fit, alpha: f64, symmetric: bool) -> Range {
    let (min, max) = (density.min().unwrap_or(0.0), density.max().unwrap_or(0.0));
    let (low, high) = match (fit.distribution.is_half(), max > 0.0) {
        (false, _) => (fit.centre - alpha, fit.centre + alpha),
        (true, true) => (0.0, alpha),
        (true, false) => (-alpha, 0.0),
    };
    let range = Range { low: low.max(min).min(max), high: high.min(max).max(min) };
    if symmetric { Range::symmetric(range.abs_max()) } else { range }
}

impl Fit {
    /// The share of the distribution below `x`; of the magnitudes for half forms.
    fn share_below(&self, x: f64) -> f64 {
        let u = (x - self.centre) / self.spread;
        match self.distribution {
            Distribution::Gauss => 0.5 * erfc(-u * FRAC_1_SQRT_2),
            Distribution::Laplace if u < 0.0 => 0.5 * exp(u),
            Distribution::Laplace => 1.0 - 0.5 * exp(-u),
            Distribution::HalfGauss => erf(u.max(0.0) * FRAC_1_SQRT_2),
            Distribution::HalfLaplace => -expm1(-u.max(0.0)),
        }
    }

    /// With the distance to the values, of which some are zeros to be left out; `None` without
    /// spread.
    fn judged(self, density: &Density, zeros: u64) -> Option<Self> {
        let usable = self.spread.is_finite() && self.spread > 0.0;
        usable.then(|| Self { distance: self.distance_to(density, zeros as f64), ..self })
    }

    /// The Kolmogorov distance to the values, of which the first `zeros` are left out.
    fn distance_to(&self, density: &Density, zeros: f64) -> f64 {
        let n = density.total().n - zeros;
        let mut below = 0.0;
        let mut distance: f64 = 0.0;
        let (mut end, mut at_end) = (f64::NAN, 0.0);
        for segment in density.segments() {
            if segment.high == 0.0 && segment.low == 0.0 && zeros > 0.0 {
                continue;
            }
            // Neighbouring segments share an end, and points have but one.
            for (x, more) in [(segment.low, 0), (segment.high, segment.count)] {
                if x != end {
                    (end, at_end) = (x, self.share_below(x));
                }
                below += more as f64;
                distance = distance.max((below / n - at_end).abs());
            }
        }
        distance
    }

    /// The threshold, in units of the spread, at which a floating grid has the least error.
    fn float_threshold(&self, float: FloatFormat) -> f64 {
        // Geometric candidates over all phases of the octave; the error hardly changes from one
        // octave to the next, so that the least is looked for among all and then refined.
        let error = |a: f64| self.float_error(float, a);
        let candidates = (0..=8 * 48).map(|i| exp2(f64::from(i) / 48.0));
        let least = |(a, x): (f64, f64), (b, y): (f64, f64)| if y < x { (b, y) } else { (a, x) };
        let scored = candidates.map(|a| (a, error(a)));
        let mut best = scored.fold((1.0, f64::INFINITY), least);
        let mut step = 1.0 / 96.0;
        while step > 1e-5 {
            let near = [-step, step].map(|d| best.0 * exp2(d));
            let next = near.map(|a| (a, error(a))).into_iter().fold(best, least);
            if next.0 == best.0 {
                step *= 0.5;
            }
            best = next;
        }
        best.0
    }

    /// The squared error of one value of spread 1 on a floating grid that ends at `a`; by symmetry
    /// only the positive side is visited.
    fn float_error(&self, float: FloatFormat, a: f64) -> f64 {
        let scale = a / f64::from(float.max());
        let levels = float.levels();
        let positive = &levels[levels.len() / 2..]; // from zero on
        let mut before = Mass::default();
        let mut sum = 0.0;
        for (i, &level) in positive.iter().enumerate() {
            let upper = positive
                .get(i + 1)
                .map_or(f64::INFINITY, |&next| 0.5 * (f64::from(level) + f64::from(next)) * scale);
            let here = self.unit_mass_below(upper);
            sum += (here - before).squared_error(f64::from(level) * scale);
            before = here;
        }
        sum
    }

    /// Share, mean and mean square of the magnitudes from 0 to `x`, for spread 1.
    fn unit_mass_below(&self, x: f64) -> Mass {
        match self.distribution {
            Distribution::Gauss | Distribution::HalfGauss => {
                let c = (2.0 / PI).sqrt();
                if x == f64::INFINITY {
                    return Mass { n: 1.0, s1: c, s2: 1.0 };
                }
                let (n, e) = (erf(x * FRAC_1_SQRT_2), exp(-0.5 * x * x));
                Mass { n, s1: c * (1.0 - e), s2: n - c * x * e }
            }
            Distribution::Laplace | Distribution::HalfLaplace => {
                if x == f64::INFINITY {
                    return Mass { n: 1.0, s1: 1.0, s2: 2.0 };
                }
                let e = exp(-x);
                Mass { n: 1.0 - e, s1: 1.0 - e * (1.0 + x), s2: 2.0 - e * (2.0 + x * (2.0 + x)) }
            }
        }
    }
}
