//! Statistics of a tensor that buffer the extremes of its observations.
//!
//! The minimum and the maximum of each observation are counted in two more histograms. One value at
//! a time, that would cost more than counting a small observation. So they are buffered and counted
//! together. The result is the same, since it does not depend on how values are split.

use std::mem;

use crate::{Histogram, Result, TensorStats, float::Element, simd};

/// Most observations whose extremes are buffered.
const MANY: usize = 256;

/// [`TensorStats`] with a buffer of extremes.
#[derive(Debug, Clone, Default)]
pub struct BufferedStats {
    stats: TensorStats,
    extremes: Vec<(f32, f32)>, // pairs, so that an observation touches one place in memory
}

impl From<TensorStats> for BufferedStats {
    fn from(stats: TensorStats) -> Self {
        Self { stats, ..Self::default() }
    }
}

impl BufferedStats {
    /// Adds one observation, as [`TensorStats::observe`] does.
    pub fn observe<T: Element>(&mut self, values: &[T]) {
        simd::fetch(self.extremes.last_chunk::<1>().map_or(&[], |last| &last[..]));
        self.observe_with(|histogram| histogram.record(values));
    }

    /// Adds one observation. `record` records it and returns its finite minimum and maximum.
    pub fn observe_with(&mut self, record: impl FnOnce(&mut Histogram) -> Option<(f32, f32)>) {
        let extremes = record(&mut self.stats.histogram);
        self.note(extremes);
    }

    /// Adds one observation that is recorded in parts, as [`Histogram::record_parts`] does.
    ///
    /// # Errors
    /// The error that `share_out` returns. There is no observation then, but the parts that it has
    /// recorded stay in the histogram.
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

    /// Adds one observation that was recorded in another histogram [like](Self::like) this one.
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

    /// Checks that more values and observations can be counted. Call it before recording, which has
    /// no limit.
    ///
    /// # Errors
    /// [`Error::TooMany`](crate::Error::TooMany) if not.
    pub fn check_room(&self, values: u64, observations: u64) -> Result<()> {
        self.stats.check_room(values, observations)
    }

    /// Adds other statistics of the same tensor, as [`TensorStats::merge`] does.
    ///
    /// # Errors
    /// As [`check_room`](Self::check_room); nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.stats.merge(&other.stats)?;
        self.buffer(&other.extremes);
        Ok(())
    }

    fn note(&mut self, extremes: Option<(f32, f32)>) {
        self.stats.observations = self.stats.observations.saturating_add(1);
        if let Some(extremes) = extremes {
            self.buffer(&[extremes]);
        }
    }

    fn buffer(&mut self, extremes: &[(f32, f32)]) {
        self.extremes.extend_from_slice(extremes);
        if self.extremes.len() >= MANY {
            count(&mut self.stats, &self.extremes);
            self.extremes.clear();
        }
    }

    /// The statistics with everything counted. The buffer is freed.
    pub fn settled(&mut self) -> &mut TensorStats {
        count(&mut self.stats, &mem::take(&mut self.extremes));
        &mut self.stats
    }

    /// Number of elements.
    pub fn count(&self) -> u64 {
        self.stats.histogram.count()
    }

    /// Number of observations, buffered ones included.
    pub fn observations(&self) -> u64 {
        self.stats.observations
    }

    /// An empty histogram of the tensor's resolution.
    pub fn like(&self) -> Histogram {
        self.stats.histogram.like()
    }
}

/// Counts buffered extremes.
fn count(stats: &mut TensorStats, extremes: &[(f32, f32)]) {
    if !extremes.is_empty() {
        let (minima, maxima): (Vec<f32>, Vec<f32>) = extremes.iter().copied().unzip();
        stats.minima.record(&minima);
        stats.maxima.record(&maxima);
    }
}
