//! Order statistics from the bins.

use super::{Density, Histogram};
use crate::{
    error::{Error, Result},
    simd,
};

impl Histogram {
    /// The `q`-quantile of the finite values: the smallest value with at least a share `q` of the
    /// values at or below it (the inverse of the empirical distribution). `None` without values.
    ///
    /// It is the order statistic itself where the histogram is exact, and within its bin
    /// (2^-m relative) otherwise; 0 and 1 give the exact minimum and maximum. O(bins).
    ///
    /// # Errors
    /// [`Error::Quantile`] for `q` outside 0…1 or NaN.
    pub fn quantile(&self, q: f64) -> Result<Option<f64>> {
        check_quantile(q)?;
        Ok(Density::new(self).quantile(q))
    }

    /// The `q`-quantile of the magnitudes of the finite values; otherwise as
    /// [`quantile`](Self::quantile).
    ///
    /// # Errors
    /// [`Error::Quantile`] for `q` outside 0…1 or NaN.
    pub fn abs_quantile(&self, q: f64) -> Result<Option<f64>> {
        check_quantile(q)?;
        Ok(Density::of_magnitudes(self).quantile(q))
    }

    /// The histogram without its exact zeros. O(bins).
    #[must_use]
    pub fn without_zeros(&self) -> Self {
        simd::with_subnormals(|| self.take_zeros_out())
    }

    fn take_zeros_out(&self) -> Self {
        let mut rest = self.clone();
        rest.count = self.count.saturating_sub(self.zeros);
        rest.zeros = 0;
        if self.zeros > 0 && rest.finite() > 0 {
            // Where zero was an extreme, the bin next to it ends the values.
            let layout = self.layout();
            let inner = |negative: bool| {
                let bins = self.codes().map(|(code, _)| layout.split(code));
                let least = bins.filter(|bin| bin.0 == negative).map(|bin| bin.1).min();
                least.map_or(0.0, |magnitude| layout.smallest(magnitude))
            };
            if rest.min == 0.0 {
                rest.min = inner(false);
            }
            if rest.max == 0.0 {
                rest.max = -inner(true);
            }
        } else if rest.finite() == 0 {
            (rest.min, rest.max) = (f32::INFINITY, f32::NEG_INFINITY);
        }
        rest
    }

    /// The histogram of the magnitudes. O(bins).
    #[must_use]
    pub fn magnitudes(&self) -> Self {
        let mut folded = self.clone();
        if let Some(pages) = &mut folded.pages {
            let layout = pages.layout();
            let bins = pages.non_empty().map(|(code, count)| (layout.split(code).1, count));
            *pages = super::Pages::of_any(layout, bins.collect());
        }
        folded.posinf = self.posinf.saturating_add(self.neginf);
        folded.neginf = 0;
        if self.finite() > 0 {
            (folded.min, folded.max) = simd::with_subnormals(|| {
                (self.smallest_magnitude(), self.min.abs().max(self.max.abs()))
            });
        }
        folded
    }

    /// Smallest magnitude: exact where zero or one sign shows it, else the smallest of its bin.
    pub(super) fn smallest_magnitude(&self) -> f32 {
        if self.zeros > 0 {
            0.0
        } else if self.min > 0.0 {
            self.min
        } else if self.max < 0.0 {
            -self.max
        } else {
            let layout = self.layout();
            let magnitudes = self.codes().map(|(code, _)| layout.split(code).1);
            magnitudes.min().map_or(0.0, |m| layout.smallest(m))
        }
    }
}

impl Density {
    /// The value at the quantile `q` in 0…1; `None` without values.
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

/// The rank, from 1, of the `q`-quantile of `count` values: ⌈q·count⌉, where a product that differs
/// from a whole number by rounding alone counts as that number (0.999 · 1000 is rank 999).
fn rank(q: f64, count: u64) -> u64 {
    let exact = q * count as f64;
    let nearest = exact.round();
    let noise = 4.0 * f64::EPSILON * count as f64; // of q itself: tails are differences to 1
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
    fn ranks_are_whole_where_the_product_is() {
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
