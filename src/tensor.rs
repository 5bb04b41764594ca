//! What a calibrator keeps of one tensor: its histogram, and the extremes of each observation.
//!
//! The histogram depends on the values only. The number of observations and their extremes depend
//! on how the data were split, so they are kept beside it. They do not depend on order, threads or
//! merges.

use crate::{
    Histogram,
    error::{Error, Result},
    float::Element,
    histogram::check_count,
};

/// Histogram and per-observation extremes of one tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorStats {
    /// all values
    pub histogram: Histogram,
    /// number of observations, empty ones included
    pub observations: u64,
    /// the minimum of each observation that had a finite value
    pub minima: Histogram,
    /// the maximum of each observation that had a finite value
    pub maxima: Histogram,
}

impl TensorStats {
    /// Statistics without observations, with an empty histogram of some resolution.
    pub fn new(histogram: Histogram) -> Self {
        Self { histogram, ..Self::default() }
    }

    /// Statistics from their parts.
    ///
    /// # Errors
    /// [`Error::Counts`] if there are not as many minima as maxima, or more than observations;
    /// [`Error::TooMany`] for more than [`MAX_COUNT`](crate::histogram::MAX_COUNT) observations.
    pub fn from_counts(
        histogram: Histogram,
        observations: u64,
        minima: Histogram,
        maxima: Histogram,
    ) -> Result<Self> {
        let extremes = minima.count();
        check_count(observations)?;
        if extremes != maxima.count() || extremes > observations {
            return Err(Error::Counts("the extremes do not match the observations"));
        }
        Ok(Self { histogram, observations, minima, maxima })
    }

    /// Adds one observation.
    pub fn observe<T: Element>(&mut self, values: &[T]) {
        self.observe_with(|histogram| histogram.record(values));
    }

    /// Adds one observation. `record` records it and returns its finite minimum and maximum.
    pub fn observe_with(&mut self, record: impl FnOnce(&mut Histogram) -> Option<(f32, f32)>) {
        let extremes = record(&mut self.histogram);
        self.note(extremes);
    }

    /// Adds one observation that was recorded in another histogram [like](Histogram::like) this
    /// one.
    ///
    /// # Errors
    /// As [`check_room`](Self::check_room); nothing is added then.
    pub fn include(&mut self, observation: Histogram) -> Result<()> {
        self.check_room(observation.count(), 1)?;
        let extremes = observation.min().zip(observation.max());
        self.histogram.absorb(observation)?;
        self.note(extremes);
        Ok(())
    }

    /// Checks that more values and observations can be counted.
    ///
    /// # Errors
    /// [`Error::TooMany`] if not.
    pub fn check_room(&self, values: u64, observations: u64) -> Result<()> {
        check_count(self.observations.saturating_add(observations))?;
        self.histogram.check_room(values)
    }

    fn note(&mut self, extremes: Option<(f32, f32)>) {
        self.observations = self.observations.saturating_add(1);
        if let Some((min, max)) = extremes {
            self.minima.record(&[min]);
            self.maxima.record(&[max]);
        }
    }

    /// Adds other statistics of the same tensor.
    ///
    /// # Errors
    /// As [`check_room`](Self::check_room); nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_room(other.histogram.count(), other.observations)?;
        self.histogram.add(&other.histogram);
        self.observations += other.observations;
        // There are no more minima and maxima than observations, whose number was checked.
        self.minima.add(&other.minima);
        self.maxima.add(&other.maxima);
        Ok(())
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        self.histogram.memory() + self.minima.memory() + self.maxima.memory()
    }
}
