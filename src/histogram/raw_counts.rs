//! A histogram from plain numbers: counts that a GPU made, or that a file holds.
//!
//! Counts that no recording can give are refused, so the result cannot be distinguished from a
//! recorded histogram.

use super::{Histogram, MAX_COUNT, store::Pages};
use crate::{
    error::{Error, Result},
    float::Layout,
};

/// The state of a histogram as plain numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawCounts {
    /// resolution: bins an octave, as a power of two
    pub mantissa_bits: u32,
    /// whether the resolution was chosen; otherwise it follows the element types
    pub fixed: bool,
    /// whether every value is the inner edge of its bin
    pub exact: bool,
    /// number of ±0
    pub zeros: u64,
    /// number of NaN
    pub nan: u64,
    /// number of +∞
    pub posinf: u64,
    /// number of −∞
    pub neginf: u64,
    /// finite minimum and maximum, −0 as 0; `None` without finite values
    pub extremes: Option<(f32, f32)>,
    /// (code, count) of the non-zero finite values, by rising code, no count 0
    pub bins: Vec<(u64, u64)>,
}

impl Histogram {
    /// The histogram with these counts. O(bins).
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12; [`Error::Counts`] if the counts contradict each other.
    pub fn from_counts(counts: &RawCounts) -> Result<Self> {
        let layout = Layout::new(counts.mantissa_bits)?;
        let refuse = |what| Err(Error::Counts(what));
        let RawCounts { fixed, exact, zeros, nan, posinf, neginf, .. } = *counts;
        let binned = check_bins(layout, &counts.bins)?;
        let specials = [zeros, nan, posinf, neginf];
        let count = specials.into_iter().fold(binned, u64::saturating_add);
        if count > MAX_COUNT {
            return refuse("a count is impossibly large");
        }
        let (min, max) = counts.extremes.unwrap_or((f32::INFINITY, f32::NEG_INFINITY));
        if !extremes_fit(layout, &counts.bins, zeros, min, max) {
            return refuse("the extremes do not fit the bins");
        }
        let is_edge = |x: f32| layout.keeps(x.to_bits());
        if exact && binned + zeros > 0 && !(is_edge(min) && is_edge(max)) {
            return refuse("an extreme is not exact");
        }
        if exact && counts.bins.iter().any(|bin| layout.split(bin.0 as usize).1 == 0) {
            return refuse("values beside zero are not exact");
        }
        let bins = counts.bins.iter().map(|&(code, count)| (code as usize, count));
        let pages = Some(Pages::of_bins(layout, bins));
        Ok(Self { fixed, pages, exact, count, zeros, nan, posinf, neginf, min, max })
    }
}

/// The sum of all bins. Refuses bins that are not finite, not in order, or empty.
fn check_bins(layout: Layout, bins: &[(u64, u64)]) -> Result<u64> {
    let (mut next, mut sum) = (0, 0u64);
    for &(code, count) in bins {
        if code >= layout.codes() as u64 {
            return Err(Error::Counts("a bin does not exist"));
        }
        if layout.split(code as usize).1 >= layout.finite_magnitudes() {
            return Err(Error::Counts("a bin is not finite"));
        }
        if code < next {
            return Err(Error::Counts("the bins are not in order"));
        }
        sum = sum.saturating_add(count);
        if count == 0 || sum > MAX_COUNT {
            return Err(Error::Counts("the count of a bin"));
        }
        next = code + 1;
    }
    Ok(sum)
}

/// Whether the extremes lie in the outermost bins. Without values, there must be no extremes.
fn extremes_fit(layout: Layout, bins: &[(u64, u64)], zeros: u64, min: f32, max: f32) -> bool {
    // The order of values: negative codes fall, positive ones rise, zero between them.
    let place = |code: usize| match layout.split(code) {
        (true, magnitude) => -1 - magnitude as i64,
        (false, magnitude) => 1 + magnitude as i64,
    };
    let place_of = |x: f32| if x == 0.0 { 0 } else { place(layout.code(x)) };
    let places = || bins.iter().map(|bin| place(bin.0 as usize));
    let zero = || (zeros > 0).then_some(0);
    match (places().chain(zero()).min(), places().chain(zero()).max()) {
        (Some(lowest), Some(highest)) => {
            min.is_finite()
                && max.is_finite()
                && min <= max
                && place_of(min) == lowest
                && place_of(max) == highest
                && (min != 0.0 || min.is_sign_positive())
                && (max != 0.0 || max.is_sign_positive())
        }
        _ => min == f32::INFINITY && max == f32::NEG_INFINITY,
    }
}
