//! Histograms derived from a histogram: without its zeros, and of its magnitudes.

use super::{Histogram, store::Pages};
use crate::simd;

impl Histogram {
    /// The histogram without its exact zeros. O(bins).
    #[must_use]
    pub fn without_zeros(&self) -> Self {
        simd::with_denormals(|| self.drop_zeros())
    }

    fn drop_zeros(&self) -> Self {
        let mut rest = self.clone();
        rest.count = self.count.saturating_sub(self.zeros);
        rest.zeros = 0;
        if self.zeros > 0 && rest.finite() > 0 {
            // If zero was an extreme, the new extreme lies in the bin nearest to it.
            let layout = self.layout();
            let inner = |negative: bool| {
                let bins = self.codes().map(|(code, _)| layout.split(code));
                let smallest = bins.filter(|bin| bin.0 == negative).map(|bin| bin.1).min();
                smallest.map_or(0.0, |magnitude| layout.smallest(magnitude))
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
            *pages = Pages::of_any(layout, bins.collect());
        }
        folded.posinf = self.posinf.saturating_add(self.neginf);
        folded.neginf = 0;
        if self.finite() > 0 {
            (folded.min, folded.max) = simd::with_denormals(|| {
                (self.smallest_magnitude(), self.min.abs().max(self.max.abs()))
            });
        }
        folded
    }

    /// The smallest magnitude. It is exact if there are zeros or values of one sign only; otherwise
    /// it is the inner edge of its bin.
    pub(crate) fn smallest_magnitude(&self) -> f32 {
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
