//! Many small observations of one tensor, gathered before they are counted.
//!
//! Counting a few hundred values touches about as many counters, most of them out of the cache
//! when thousands of tensors take turns: several ns a value. So short observations wait, as they are,
//! until there are enough of them to be counted together. Counting does not depend on how the
//! values are split, and the extremes of each observation are noted apart, so nothing else changes.

use std::mem;

use crate::{Histogram, TensorStats, float::Element, histogram::finite_extremes};

/// Values that are counted together: 32 KiB of them.
const ENOUGH: usize = 8192;
/// Observations of this many values are not kept waiting.
const LONG: usize = 2048;

/// Observations whose extremes wait at most.
const MANY: usize = 256;

/// [`TensorStats`] with observations that are yet to be counted.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    stats: TensorStats,
    values: Vec<f32>, // of short observations
    minima: Vec<f32>, // of observations, whose values may wait as well or not
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
        if let Some(values) = T::as_f32(values)
            && values.len() < LONG
            && let Some(extremes) = finite_extremes(values)
        {
            self.wait(values);
            self.note(Some(extremes));
        } else {
            self.observe_with(|histogram| histogram.record(values));
        }
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
    /// waits there waits here, if both are of one kind.
    pub fn merge(&mut self, other: &Self) {
        if self.like() != other.like() {
            // Which resolution is the coarser depends on what was counted.
            return self.settled().merge(other.clone().settled());
        }
        self.stats.merge(&other.stats);
        self.wait(&other.values);
        self.wait_extremes(&other.minima, &other.maxima);
    }

    fn wait(&mut self, values: &[f32]) {
        self.values.extend_from_slice(values);
        if self.values.len() >= ENOUGH {
            count(&mut self.stats.histogram, &mut self.values);
        }
    }

    fn note(&mut self, extremes: Option<(f32, f32)>) {
        self.stats.observations = self.stats.observations.saturating_add(1);
        if let Some((min, max)) = extremes {
            self.wait_extremes(&[min], &[max]);
        }
    }

    fn wait_extremes(&mut self, minima: &[f32], maxima: &[f32]) {
        self.minima.extend_from_slice(minima);
        self.maxima.extend_from_slice(maxima);
        if self.minima.len() >= MANY {
            count(&mut self.stats.minima, &mut self.minima);
            count(&mut self.stats.maxima, &mut self.maxima);
        }
    }

    /// The statistics with everything counted; nothing waits any longer, nor is memory kept for it.
    pub fn settled(&mut self) -> &mut TensorStats {
        let Self { stats, values, minima, maxima } = self;
        for (histogram, mut values) in [
            (&mut stats.histogram, mem::take(values)),
            (&mut stats.minima, mem::take(minima)),
            (&mut stats.maxima, mem::take(maxima)),
        ] {
            count(histogram, &mut values);
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

/// Counts values that have waited.
fn count(histogram: &mut Histogram, values: &mut Vec<f32>) {
    if !values.is_empty() {
        histogram.record(values);
        values.clear();
    }
}
