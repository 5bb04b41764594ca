//! Many observations of one tensor, whose extremes are gathered before they are counted.
//!
//! The extremes of each observation are counted as well, in histograms of their own. One value at a
//! time, of two more histograms, would cost more than counting a small observation does. So they
//! wait, as they are, until there are enough of them to be counted together: which does not depend on
//! how they are split.

use std::mem;

use crate::{Histogram, Result, TensorStats, float::Element, simd};

/// Observations whose extremes wait at most.
const MANY: usize = 256;

/// [`TensorStats`] with extremes that are yet to be counted.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    stats: TensorStats,
    extremes: Vec<(f32, f32)>, // side by side: what is asked of memory is one place, not two
}

impl From<TensorStats> for Recorder {
    fn from(stats: TensorStats) -> Self {
        Self { stats, ..Self::default() }
    }
}

impl Recorder {
    /// Adds one observation, as [`TensorStats::observe`] does.
    pub fn observe<T: Element>(&mut self, values: &[T]) {
        simd::fetch(self.extremes.last_chunk::<1>().map_or(&[], |last| &last[..]));
        self.observe_with(|histogram| histogram.record(values));
    }

    /// Adds one observation that `record` makes: it returns the extremes of the finite values.
    pub fn observe_with(&mut self, record: impl FnOnce(&mut Histogram) -> Option<(f32, f32)>) {
        let extremes = record(&mut self.stats.histogram);
        self.note(extremes);
    }

    /// Adds one observation that is made of parts, each counted where `share_out` calls for its number, which it
    /// must once: on any threads, at once.
    ///
    /// # Errors
    /// What `share_out` returns; then there was no observation, but what it called for is counted.
    ///
    /// # Panics
    /// As [`Histogram::record_parts`].
    pub fn observe_parts<T: Element, E>(
        &mut self,
        parts: &[&[T]],
        share_out: impl FnOnce(&(dyn Fn(usize) + Sync)) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let extremes = self.stats.histogram.record_parts(parts, share_out)?;
        self.note(extremes);
        Ok(())
    }

    /// Adds one observation that was recorded apart, into a histogram [like](Self::like) this one.
    ///
    /// # Errors
    /// As [`check_room`](Self::check_room); nothing is added then.
    pub fn include(&mut self, observation: Histogram) -> Result<()> {
        self.check_room(observation.count(), 1)?;
        let extremes = observation.min().zip(observation.max());
        self.stats.histogram.absorb(observation)?;
        self.note(extremes);
        Ok(())
    }

    /// Refuses more values, or more observations, than can be counted beside those that are. To be asked
    /// before recording, which takes what comes.
    ///
    /// # Errors
    /// [`Error::TooMany`](crate::Error::TooMany).
    pub fn check_room(&self, values: u64, observations: u64) -> Result<()> {
        self.stats.check_room(values, observations)
    }

    /// Adds the statistics of the same tensor from elsewhere, as [`TensorStats::merge`] does. What
    /// waits there waits here.
    ///
    /// # Errors
    /// As [`check_room`](Self::check_room); nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.stats.merge(&other.stats)?;
        self.wait(&other.extremes);
        Ok(())
    }

    fn note(&mut self, extremes: Option<(f32, f32)>) {
        self.stats.observations = self.stats.observations.saturating_add(1);
        if let Some(extremes) = extremes {
            self.wait(&[extremes]);
        }
    }

    fn wait(&mut self, extremes: &[(f32, f32)]) {
        self.extremes.extend_from_slice(extremes);
        if self.extremes.len() >= MANY {
            count(&mut self.stats, &self.extremes);
            self.extremes.clear();
        }
    }

    /// The statistics with everything counted; nothing waits any longer, nor is memory kept for it.
    pub fn settled(&mut self) -> &mut TensorStats {
        count(&mut self.stats, &mem::take(&mut self.extremes));
        &mut self.stats
    }

    /// All elements seen.
    pub fn count(&self) -> u64 {
        self.stats.histogram.count()
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

/// Counts extremes that have waited.
fn count(stats: &mut TensorStats, extremes: &[(f32, f32)]) {
    if !extremes.is_empty() {
        let (minima, maxima): (Vec<f32>, Vec<f32>) = extremes.iter().copied().unzip();
        stats.minima.record(&minima);
        stats.maxima.record(&maxima);
    }
}
