//! A view of the histogram in bins of equal width, for methods that are defined on such.

use super::{Density, Histogram};
use crate::error::{Error, Result};

/// Most bins that a uniform view may have: 128 MiB of counts.
pub const MAX_UNIFORM_BINS: usize = 1 << 24;

impl Histogram {
    /// Counts over `num_bins` bins of equal width from `low` to `high`, as `numpy.histogram` has
    /// them: each bin holds its left edge, the last one both. Values outside are not in the view.
    ///
    /// No value is lost or invented: the counts are differences of one rising sequence of whole
    /// numbers, so they sum to the number of values in [low, high]. Where the histogram is exact
    /// they are those of the data. O(bins + `num_bins`).
    ///
    /// # Errors
    /// [`Error::NumBins`] for none or more than 2^24; [`Error::Interval`] for ends that are not
    /// finite or not in order.
    pub fn rebin(&self, num_bins: usize, low: f64, high: f64) -> Result<Vec<u64>> {
        Density::new(self).rebin(num_bins, low, high)
    }
}

impl Density {
    /// As [`Histogram::rebin`].
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

/// Edge `i` of `num_bins` equal bins; the ends exactly.
pub(crate) fn edge(i: usize, num_bins: usize, low: f64, high: f64) -> f64 {
    if i == num_bins { high } else { low + i as f64 * ((high - low) / num_bins as f64) }
}
