//! Mean, spread and shape of a density. Bins are added in order, so the results are as
//! deterministic as the histogram.

use super::{Density, Segment};
use crate::histogram::Histogram;

/// Moments of the finite values; all are 0 without values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// arithmetic mean
    pub mean: f64,
    /// population standard deviation (divided by n)
    pub std: f64,
    /// mean of |x − mean|, the scale of a Laplace distribution
    pub mean_abs_deviation: f64,
    /// fourth central moment divided by the squared variance; 3 for a Gaussian, 0 if `std` is 0
    pub kurtosis: f64,
}

impl Histogram {
    /// Moments of the finite values; exact up to rounding if the histogram is exact. O(bins).
    pub fn moments(&self) -> Moments {
        Density::new(self).moments()
    }
}

impl Density {
    /// Moments of the density. O(bins).
    pub fn moments(&self) -> Moments {
        let n = self.count() as f64;
        if n == 0.0 {
            return Moments::default();
        }
        let mean = self.total().s1 / n;
        let (mut second, mut fourth, mut absolute) = (0.0, 0.0, 0.0);
        for segment in self.segments() {
            let central = Central::of(segment, mean);
            second += central.second;
            fourth += central.fourth;
            absolute += central.absolute;
        }
        let variance = second / n;
        let kurtosis = if variance > 0.0 { (fourth / n) / (variance * variance) } else { 0.0 };
        Moments { mean, std: variance.sqrt(), mean_abs_deviation: absolute / n, kurtosis }
    }
}

/// Central moments of one segment, times its count.
struct Central {
    second: f64,
    fourth: f64,
    absolute: f64,
}

impl Central {
    fn of(segment: &Segment, mean: f64) -> Self {
        let n = segment.count as f64;
        let (a, b) = (segment.low - mean, segment.high - mean);
        let (a2, ab, b2) = (a * a, a * b, b * b);
        // The mean of x⁴ over [a, b] is (b⁵ − a⁵) / (5 (b − a)), written without the difference.
        let fourth = (a2 * a2 + a2 * ab + a2 * b2 + ab * b2 + b2 * b2) / 5.0;
        let absolute = if a < 0.0 && b > 0.0 {
            (a2 + b2) / (2.0 * (b - a)) // the mean lies inside
        } else {
            (0.5 * (a + b)).abs()
        };
        Self { second: n * ((a2 + ab + b2) / 3.0), fourth: n * fourth, absolute: n * absolute }
    }
}
