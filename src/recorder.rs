//! Many observations of one tensor, whose extremes are gathered before they are counted.
//!
//! The extremes of each observation are counted as well, in histograms of their own. One value at a
//! time, of two more histograms, would cost more than counting a small observation does. So they
//! wait, as they are, until there are enough of them to be counted together: which does not depend on
//! how they are split.

use std::mem;

use crate::{Histogram, TensorStats, float::Element};

/// Observations whose extremes wait at most.
const MANY: usize = 256;

/// [`TensorStats`] with extremes that are yet to be counted.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    stats: TensorStats,
    minima: Vec<f32>,
    maxima: Vec<f32>,
}

impl From<TensorStats> for Recorder {
    fn from(stats: TensorStats) -> Self {
        Self { stats, ..Self::default() }
    }
}

impl Recorder {
    /// Adds one observation, as [`TensorStats::observe`] does.
    pub fn observe<T: Element>(&mut self, values: &[T]) {
        self.observe_with(|histogram| histogram.record(values));
    }

    /// Adds one observation that `record` makes: it returns the extremes of the finite values.
    pub fn observe_with(&mut self, record: impl FnOnce(&mut Histogram) -> Option<(f32, f32)>) {
        let extremes = record(&mut self.stats.histogram);
        self.note(extremes);
    }

    /// Adds one observation that was recorded apart, into a histogram [like](Self::like) this one.
    pub fn include(&mut self, observation: Histogram) {
        let extremes = observation.min().zip(observation.max());
        self.stats.histogram.absorb(observation);
        self.note(extremes);
    }

    /// Adds the statistics of the same tensor from elsewhere, as [`TensorStats::merge`] does. What
    /// waits there waits here.
    pub fn merge(&mut self, other: &Self) {
        self.stats.merge(&other.stats);
        self.wait(&other.minima, &other.maxima);
    }

    fn note(&mut self, extremes: Option<(f32, f32)>) {
        self.stats.observations = self.stats.observations.saturating_add(1);
        if let Some((min, max)) = extremes {
            self.wait(&[min], &[max]);
        }
    }

    fn wait(&mut self, minima: &[f32], maxima: &[f32]) {
        self.minima.extend_from_slice(minima);
        self.maxima.extend_from_slice(maxima);
        if self.minima.len() >= MANY {
            self.stats.minima.record(&self.minima);
            self.stats.maxima.record(&self.maxima);
            self.minima.clear();
            self.maxima.clear();
        }
    }

    /// The statistics with everything counted; nothing waits any longer, nor is memory kept for it.
    pub fn settled(&mut self) -> &mut TensorStats {
        let Self { stats, minima, maxima } = self;
        for (histogram, waiting) in
            [(&mut stats.minima, mem::take(minima)), (&mut stats.maxima, mem::take(maxima))]
        {
            if !waiting.is_empty() {
                histogram.record(&waiting);
            }
        }
        stats
    }

    /// Number of observations, those that wait included.
    pub fn observations(&self) -> u64 {
        self.stats.observations
    }

    /// An empty histogram of the kind that the tensor has.
    pub fn like(&self) -> Histogram {
        self.stats.histogram.like()
    }
}
