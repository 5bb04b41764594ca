//! A view of the histogram in bins of equal width, for methods that are defined on such bins.

use super::Density;
use crate::{
    error::{Error, Result},
    histogram::Histogram,
};

/// Most bins of a uniform view: 128 MiB of counts.
pub const MAX_UNIFORM_BINS: usize = 1 << 24;

impl Histogram {
    /// Counts over `num_bins` bins of equal width from `low` to `high`. O(bins + `num_bins`).
    ///
    /// Bins are those of `numpy.histogram`: each contains its left edge, the last one both edges.
    /// Values outside are not counted.
    ///
    /// The counts are differences of one rising sequence of integers, so they always sum to the
    /// number of values in [low, high]. If the histogram is exact, they are those of the data.
    ///
    /// # Errors
    /// [`Error::NumBins`] for 0 or more than 2^24 bins; [`Error::Interval`] for ends that are not
    /// finite or not in order.
    pub fn rebin(&self, num_bins: usize, low: f64, high: f64) -> Result<Vec<u64>> {
        Density::new(self).rebin(num_bins, low, high)
    }
}

impl Density {
    /// Counts over bins of equal width, as [`Histogram::rebin`].
    ///
    /// # Errors
    /// As [`Histogram::rebin`].
    pub fn rebin(&self, num_bins: usize, low: f64, high: f64) -> Result<Vec<u64>> {
        if !(1..=MAX_UNIFORM_BINS).contains(&num_bins) {
            return Err(Error::NumBins(num_bins as i64));
        }
        // The last comparison refuses a width that overflows.
        if !(low.is_finite() && high.is_finite() && low <= high && (high - low).is_finite()) {
            return Err(Error::Interval { low, high });
        }
        let mut counts = Vec::with_capacity(num_bins);
        let mut before = self.count_below(low);
        for i in 1..num_bins {
            let next = self.count_below(edge(i, num_bins, low, high)).max(before);
            counts.push(next - before);
            before = next;
        }
        counts.push(self.count_up_to(high).max(before) - before);
        Ok(counts)
    }
}

/// Edge `i` of `num_bins` equal bins. The outermost edges are exact.
pub(crate) fn edge(i: usize, num_bins: usize, low: f64, high: f64) -> f64 {
    if i == num_bins { high } else { low + i as f64 * ((high - low) / num_bins as f64) }
}
