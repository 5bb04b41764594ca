//! Many small observations of one tensor, gathered before they are counted.
//!
//! Counting a few hundred values touches about as many counters, most of them out of the cache
//! when thousands of tensors take turns: 30 ns a value. So short observations wait, as they are,
//! until there are enough of them to be counted together. Counting does not depend on how the
//! values are split, and the extremes of each observation are noted apart, so nothing else changes.

use crate::{Histogram, TensorStats, float::Element, histogram::finite_extremes};

/// Values that wait at most: 32 KiB, less than their histogram takes.
const ENOUGH: usize = 8192;
/// Observations of this many values are not kept waiting.
const LONG: usize = 2048;

/// [`TensorStats`] with observations that are yet to be counted.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    stats: TensorStats,
    values: Vec<f32>,
    minima: Vec<f32>, // of the observations that wait
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
        match T::as_f32(values) {
            Some(values) if !values.is_empty() && values.len() < LONG => self.wait(values),
            _ => self.settled().observe(values),
        }
    }

    fn wait(&mut self, values: &[f32]) {
        let Some((min, max)) = finite_extremes(values) else {
            return self.settled().observe(values);
        };
        self.stats.observations = self.stats.observations.saturating_add(1);
        self.keep(values, &[min], &[max]);
    }

    /// Keeps values waiting, and the extremes of their observations.
    fn keep(&mut self, values: &[f32], minima: &[f32], maxima: &[f32]) {
        self.values.extend_from_slice(values);
        self.minima.extend_from_slice(minima);
        self.maxima.extend_from_slice(maxima);
        if self.values.len() >= ENOUGH {
            self.count();
        }
    }

    /// Adds the statistics of the same tensor from elsewhere, as [`TensorStats::merge`] does. What
    /// waits there waits here, if both are of one kind.
    pub fn merge(&mut self, other: &Self) {
        if self.like() != other.like() {
            // Which resolution is the coarser depends on what was counted.
            return self.settled().merge(other.clone().settled());
        }
        self.stats.merge(&other.stats);
        self.keep(&other.values, &other.minima, &other.maxima);
    }

    fn count(&mut self) {
        if self.values.is_empty() {
            return;
        }
        for (histogram, values) in [
            (&mut self.stats.histogram, &mut self.values),
            (&mut self.stats.minima, &mut self.minima),
            (&mut self.stats.maxima, &mut self.maxima),
        ] {
            histogram.record(values);
            values.clear();
        }
    }

    /// The statistics with everything counted; nothing waits any longer, nor is memory kept for it.
    pub fn settled(&mut self) -> &mut TensorStats {
        self.count();
        (self.values, self.minima, self.maxima) = (Vec::new(), Vec::new(), Vec::new());
        &mut self.stats
    }

    /// An empty histogram of the kind that the tensor has.
    pub fn like(&self) -> Histogram {
        self.stats.histogram.like()
    }
}
