//! A histogram from counts that were made elsewhere: on a GPU, or read from a file.
//!
//! Everything is checked that the laws of recording imply, so that what comes in cannot be told
//! from what was recorded here.

use super::{Histogram, MAX_COUNT, Pages, Parts};
use crate::{
    error::{Error, Result},
    float::Layout,
};

/// The state of a histogram as plain numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counts {
    /// resolution: bins an octave, as a power of two
    pub mantissa_bits: u32,
    /// whether the resolution was asked for, or follows the element types
    pub fixed: bool,
    /// whether every value is the inner edge of its bin
    pub exact: bool,
    /// elements that were ±0
    pub zeros: u64,
    /// elements that were not a number
    pub nan: u64,
    /// elements that were +∞
    pub posinf: u64,
    /// elements that were −∞
    pub neginf: u64,
    /// smallest and largest finite value, −0 as 0; `None` without one
    pub extremes: Option<(f32, f32)>,
    /// codes of the non-zero finite values, rising, with their counts, none of them 0
    pub bins: Vec<(u64, u64)>,
}

impl Histogram {
    /// The histogram that has these counts. O(bins).
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12; [`Error::Counts`] if they do not fit together.
    pub fn from_counts(counts: &Counts) -> Result<Self> {
        let layout = Layout::new(counts.mantissa_bits)?;
        let refuse = |what| Err(Error::Counts(what));
        let Counts { zeros, nan, posinf, neginf, .. } = *counts;
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
        if counts.exact && binned + zeros > 0 && !(is_edge(min) && is_edge(max)) {
            return refuse("an extreme is not exact");
        }
        if counts.exact && counts.bins.iter().any(|bin| layout.split(bin.0 as usize).1 == 0) {
            return refuse("values beside zero are not exact");
        }
        let bins = counts.bins.iter().map(|&(code, count)| (code as usize, count));
        Ok(Self::from_parts(Parts {
            fixed: counts.fixed,
            pages: Some(Pages::of_bins(layout, bins)),
            exact: counts.exact,
            count,
            zeros,
            nan,
            posinf,
            neginf,
            min,
            max,
        }))
    }
}

/// The sum of the counts of bins that can be: of finite values, in order, none of them empty.
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

/// Whether the extremes lie in the outermost bins, and there are none without values.
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
