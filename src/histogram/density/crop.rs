//! The part of a histogram between two values.

use super::{Density, Segment};
use crate::{
    error::{Error, Result},
    histogram::{Histogram, store::Pages},
    simd,
};

impl Histogram {
    /// The histogram of the values from `low` to `high`, both included. O(bins).
    ///
    /// Of a bin that an end divides, the inner part counts. Non-finite values are left out. The
    /// result is exact if the histogram is.
    ///
    /// # Errors
    /// [`Error::Interval`] for ends that are not finite or not in order.
    pub fn crop(&self, low: f64, high: f64) -> Result<Self> {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(Error::Interval { low, high });
        }
        Ok(simd::with_denormals(|| self.part(low, high)))
    }

    fn part(&self, low: f64, high: f64) -> Self {
        let density = Density::new(self);
        let layout = self.layout();
        let mut pages = Pages::new(layout);
        let mut part = Self { fixed: self.fixed, exact: self.exact, ..Self::new() };
        // The middle of a segment lies in its bin, even if the extremes clip the segment. As an f32
        // it may round to the outer edge, so the bin is found from the f64.
        let middle = |segment: &Segment| 0.5 * (segment.low + segment.high);
        let bin = |middle: f64| layout.join(middle < 0.0, layout.magnitude_of(middle.abs()));
        let (mut first, mut last): (Option<&Segment>, Option<&Segment>) = (None, None);
        let segments = density.segments().iter().enumerate();
        segments.filter(|(_, s)| s.high >= low && s.low <= high).for_each(|(k, segment)| {
            let count = if low < segment.low && segment.high < high {
                segment.count
            } else {
                let below = density.count_below(low).max(density.rank(k));
                let up_to = density.count_up_to(high).min(density.rank(k + 1));
                up_to.saturating_sub(below)
            };
            if count == 0 {
                return;
            }
            part.count += count;
            first = first.or(Some(segment));
            last = Some(segment);
            match middle(segment) {
                0.0 => part.zeros += count,
                middle => pages.add(bin(middle), count),
            }
        });
        if let (Some(first), Some(last)) = (first, last) {
            // Neither its outer edge nor zero belongs to a bin.
            let inside = |x: f64, middle: f64| match (x as f32).to_bits() {
                _ if middle == 0.0 => 0.0,
                bits if bits << 1 == 0 => 1f32.copysign(middle as f32) * f32::from_bits(1),
                bits if layout.code(f32::from_bits(bits)) == bin(middle) => f32::from_bits(bits),
                bits => f32::from_bits(bits - 1),
            };
            part.min = inside(first.low.max(low), middle(first));
            part.max = inside(last.high.min(high), middle(last));
        }
        part.pages = self.pages.is_some().then_some(pages);
        part
    }
}
