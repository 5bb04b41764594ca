//! ACIQ, analytic clipping: the best threshold for a distribution of known form.
//!
//! Banner, Nahshan, Soudry, "Post training 4-bit quantization of convolutional networks for
//! rapid-deployment", `NeurIPS` 2019. On [−α, α] in 2^M cells, the expected squared error of a
//! distribution with spread b or σ is, in units of this spread,
//!
//! ```text
//! Laplace:  2 e^(−a) + a² / (3 · 4^M)                                      (their equation 6)
//! Gauss:    (1 + a²) erfc(a/√2) − √(2/π) a e^(−a²/2) + a² / (3 · 4^M)     (their equation 5)
//! ```
//!
//! Setting the derivative to zero gives a = W₀(3 · 4^M) for Laplace, where W₀ is Lambert's
//! function. For Gauss it gives a · erfc(a/√2) − √(2/π) e^(−a²/2) + a / (3 · 4^M) = 0, whose left
//! side rises with a. The half forms, for values on one side of zero, have the threshold of one
//! more bit.
//!
//! Floating formats do not have even steps. There the expected error of the fitted distribution is
//! integrated over the real levels and minimized numerically.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use libm::{erf, erfc, exp, exp2, expm1};

use crate::{Density, FloatFormat, Histogram, Mass, Moments, QuantFormat, Range, Scaling};

/// The form of a distribution. The half forms lie on one side of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// normal around the mean
    Gauss,
    /// double exponential around the mean
    Laplace,
    /// one side of a normal around zero, as after a `ReLU`
    HalfGauss,
    /// exponential from zero on
    HalfLaplace,
}

impl Distribution {
    /// All forms, the full ones first.
    pub const ALL: [Self; 4] = [Self::Gauss, Self::Laplace, Self::HalfGauss, Self::HalfLaplace];

    fn is_half(self) -> bool {
        matches!(self, Self::HalfGauss | Self::HalfLaplace)
    }
}

/// A distribution that was fitted to the values by moments, and its distance from them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// the form
    pub distribution: Distribution,
    /// the mean for full forms, 0 for half forms
    pub center: f64,
    /// σ of a Gauss, b of a Laplace; for half forms that of the non-zero magnitudes
    pub spread: f64,
    /// Kolmogorov distance, 0…1: the largest difference of the cumulative distributions; half forms
    /// leave out exact zeros, which a `ReLU` makes
    pub distance: f64,
}

/// Fits one form. `None` without values or spread, or for a half form if values have both signs.
pub fn fit(histogram: &Histogram, distribution: Distribution) -> Option<Fit> {
    let density = Density::new(histogram);
    if distribution.is_half() {
        fit_half(histogram, &density, distribution)
    } else {
        fit_full(&density, &density.moments(), distribution)
    }
}

/// The form with the minimum Kolmogorov distance; of equal ones the first in [`Distribution::ALL`].
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
    Fit { distribution, center: moments.mean, spread, distance: 0.0 }.with_distance(density, 0)
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
    Fit { distribution, center: 0.0, spread, distance: 0.0 }
        .with_distance(&magnitudes, histogram.zeros())
}

/// The threshold for 2^`bits` cells, in units of the spread.
pub fn threshold(distribution: Distribution, bits: u32) -> f64 {
    let bits = if distribution.is_half() { bits + 1 } else { bits };
    let levels = libm::ldexp(1.0, bits as i32);
    let cells = 3.0 * levels * levels;
    match distribution {
        Distribution::Laplace | Distribution::HalfLaplace => lambert_w::lambert_w0(cells),
        Distribution::Gauss | Distribution::HalfGauss => gauss_root(cells),
    }
}

/// The share of a full form beyond its threshold, on both sides together.
pub fn share_beyond(distribution: Distribution, bits: u32) -> f64 {
    let a = threshold(distribution, bits);
    match distribution {
        Distribution::Laplace | Distribution::HalfLaplace => exp(-a),
        Distribution::Gauss | Distribution::HalfGauss => erfc(a * FRAC_1_SQRT_2),
    }
}

/// The root of a · erfc(a/√2) − √(2/π) e^(−a²/2) + a / `cells`, which rises with a, by bisection.
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

/// The range from a fitted distribution, which is never wider than the data.
///
/// Full forms reach to either side of the mean; symmetric scaling uses the further end. Half forms
/// start at zero; symmetric scaling leaves them half of the codes, which is one bit less.
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

/// The range from the short formula α = √(2/π) · σ · √(ln 2^bits), around the mean, or from zero on
/// for a half form. It minimizes no error; the documentation of the methods has measurements.
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
        (false, _) => (fit.center - alpha, fit.center + alpha),
        (true, true) => (0.0, alpha),
        (true, false) => (-alpha, 0.0),
    };
    let range = Range { low: low.max(min).min(max), high: high.min(max).max(min) };
    if symmetric { Range::symmetric(range.abs_max()) } else { range }
}

impl Fit {
    /// The share of the distribution below `x`; for half forms, that of the magnitudes.
    fn share_below(&self, x: f64) -> f64 {
        let u = (x - self.center) / self.spread;
        match self.distribution {
            Distribution::Gauss => 0.5 * erfc(-u * FRAC_1_SQRT_2),
            Distribution::Laplace if u < 0.0 => 0.5 * exp(u),
            Distribution::Laplace => 1.0 - 0.5 * exp(-u),
            Distribution::HalfGauss => erf(u.max(0.0) * FRAC_1_SQRT_2),
            Distribution::HalfLaplace => -expm1(-u.max(0.0)),
        }
    }

    /// Adds the distance to the values, `zeros` of which are left out. `None` without spread.
    fn with_distance(self, density: &Density, zeros: u64) -> Option<Self> {
        let usable = self.spread.is_finite() && self.spread > 0.0;
        usable.then(|| Self { distance: self.distance_to(density, zeros as f64), ..self })
    }

    /// The Kolmogorov distance to the values, `zeros` of which are left out.
    fn distance_to(&self, density: &Density, zeros: f64) -> f64 {
        let n = density.total().n - zeros;
        let mut below = 0.0;
        let mut distance: f64 = 0.0;
        let (mut end, mut at_end) = (f64::NAN, 0.0);
        for segment in density.segments() {
            if segment.high == 0.0 && segment.low == 0.0 && zeros > 0.0 {
                continue;
            }
            // Neighboring segments share an end, and a point has only one.
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

    /// The threshold, in units of the spread, at which a floating grid has the minimum error.
    fn float_threshold(&self, float: FloatFormat) -> f64 {
        // Geometric candidates over several octaves, 48 phases each, since the error hardly changes
        // from one octave to the next. The best one is then refined.
        let error = |a: f64| self.float_error(float, a);
        let candidates = (0..=8 * 48).map(|i| exp2(f64::from(i) / 48.0));
        let better = |(a, x): (f64, f64), (b, y): (f64, f64)| if y < x { (b, y) } else { (a, x) };
        let scored = candidates.map(|a| (a, error(a)));
        let mut best = scored.fold((1.0, f64::INFINITY), better);
        let mut step = 1.0 / 96.0;
        while step > 1e-5 {
            let near = [-step, step].map(|d| best.0 * exp2(d));
            let next = near.map(|a| (a, error(a))).into_iter().fold(best, better);
            if next.0 == best.0 {
                step *= 0.5;
            }
            best = next;
        }
        best.0
    }

    /// The squared error of a value of spread 1 on a floating grid that ends at `a`. By symmetry
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

    /// The mass of the magnitudes from 0 to `x`, for spread 1.
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
