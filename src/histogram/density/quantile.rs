//! Quantiles: order statistics from the bins.

use super::Density;
use crate::{
    error::{Error, Result},
    histogram::Histogram,
};

impl Histogram {
    /// The `q`-quantile of the finite values; `None` without values. O(bins).
    ///
    /// This is the smallest value with at least a share `q` of the values at or below it: the
    /// inverse of the empirical distribution. It is the order statistic itself if the histogram is
    /// exact, and lies in the same bin (2^-m relative) otherwise. 0 and 1 give the exact minimum
    /// and maximum.
    ///
    /// # Errors
    /// [`Error::Quantile`] for `q` outside 0…1 or NaN.
    pub fn quantile(&self, q: f64) -> Result<Option<f64>> {
        check_quantile(q)?;
        Ok(Density::new(self).quantile(q))
    }

    /// The `q`-quantile of the finite magnitudes, as [`quantile`](Self::quantile).
    ///
    /// # Errors
    /// [`Error::Quantile`] for `q` outside 0…1 or NaN.
    pub fn abs_quantile(&self, q: f64) -> Result<Option<f64>> {
        check_quantile(q)?;
        Ok(Density::of_magnitudes(self).quantile(q))
    }
}

impl Density {
    /// The `q`-quantile for `q` in 0…1; `None` without values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = rank(q, count);
        if rank == count {
            return self.max();
        }
        if rank == 1 {
            return self.min();
        }
        // The last segment with fewer than `rank` values before it.
        let mut low = 0;
        let mut high = self.segments().len();
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.rank(middle) < rank { low = middle } else { high = middle }
        }
        let segment = self.segments()[low];
        let inside = (rank - self.rank(low)) as f64 - 0.5;
        let width = segment.high - segment.low;
        Some(segment.low + width * (inside / segment.count as f64))
    }
}

/// The rank, from 1, of the `q`-quantile of `count` values: ⌈q·count⌉.
///
/// A product that differs from an integer only by rounding counts as that integer: 0.999 · 1000 is
/// rank 999.
fn rank(q: f64, count: u64) -> u64 {
    let exact = q * count as f64;
    let nearest = exact.round();
    let noise = 4.0 * f64::EPSILON * count as f64; // rounding of q, which may come from 1 − tail
    let rank = if (exact - nearest).abs() <= noise { nearest } else { exact.ceil() };
    (rank as u64).clamp(1, count)
}

pub(crate) fn check_quantile(q: f64) -> Result<()> {
    if (0.0..=1.0).contains(&q) { Ok(()) } else { Err(Error::Quantile(q)) }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn an_integer_product_is_the_rank() {
        for (percent, count, want) in [
            (99.9, 1000, 999),
            (99.99, 10_000, 9999),
            (99.999, 100_000, 99_999),
            (50.0, 4, 2),
            (50.0, 5, 3),
            (0.0, 10, 1),
            (100.0, 10, 10),
            (10.0, 30, 3),
            (70.0, 10, 7),
        ] {
            assert_eq!(rank(percent / 100.0, count), want, "{percent} % of {count}");
        }
    }
}
