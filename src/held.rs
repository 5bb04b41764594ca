//! Statistics by channel that may hold an observation back: its values, until it is known where
//! they are to be counted.
//!
//! What a forward of a model saw counts when the forward is complete. Until then there would be a
//! histogram for each channel, made anew and merged: for 512 rows that is 3.7 ns a value to count, and
//! 4.1 to merge. A copy of the values is smaller than their histograms as long as there are few in
//! a channel; it is counted straight into the statistics that it is merged into.

use std::sync::Arc;

use crate::{
    ChannelStats,
    error::{Error, Result},
    float::{BLOCK, Element},
    shape::Shape,
    simd,
};

/// Values of a channel that are held back at most: 4 KiB.
const FEW: usize = 1024;

/// [`ChannelStats`] of which the first observation may be held back.
#[derive(Debug, Clone)]
pub struct Held {
    stats: ChannelStats, // empty while there are values
    values: Option<(Arc<Vec<f32>>, Shape)>,
}

impl From<ChannelStats> for Held {
    fn from(stats: ChannelStats) -> Self {
        Self { stats, values: None }
    }
}

impl Held {
    /// Adds one observation, as [`ChannelStats::observe`] does. If it is the first and a small one, a
    /// copy is held back, of the `f32` that would be counted.
    ///
    /// # Errors
    /// As [`ChannelStats::observe`].
    ///
    /// # Panics
    /// As [`ChannelStats::observe`].
    pub fn hold<T: Element>(&mut self, values: &[T], shape: Shape) -> Result<()> {
        assert_eq!(values.len(), shape.len(), "the shape is that of the values");
        let first = self.values.is_none() && self.stats.observations() == 0;
        if !first || values.len() > FEW * shape.channels {
            return self.settled().observe(values, shape);
        }
        let mut copy = Vec::with_capacity(values.len());
        let mut buffer = [0.0; BLOCK];
        simd::with_subnormals(|| {
            for block in values.chunks(BLOCK) {
                copy.extend_from_slice(T::widen(block, &mut buffer));
            }
        });
        self.values = Some((Arc::new(copy), shape));
        Ok(())
    }

    /// The statistics with everything counted.
    #[expect(
        clippy::missing_panics_doc,
        reason = "values are held back while there are no statistics"
    )]
    pub fn settled(&mut self) -> &mut ChannelStats {
        if let Some((values, shape)) = self.values.take() {
            self.stats.observe(&values, shape).expect("nothing was observed before");
        }
        &mut self.stats
    }

    /// Adds the statistics of the same tensor from elsewhere, as [`ChannelStats::merge`] does.
    ///
    /// # Errors
    /// As [`ChannelStats::merge`].
    pub fn merge(&mut self, mut other: Self) -> Result<()> {
        let ours = self.settled();
        match &other.values {
            Some((values, shape)) if ours.is_like(&other.stats) => ours.observe(values, *shape),
            _ => ours.merge(other.settled()),
        }
    }

    /// Whether statistics along `axis` of so many `channels` could be [merged](Self::merge) into these.
    ///
    /// # Errors
    /// As [`ChannelStats::check`].
    pub fn check(&self, axis: i64, channels: usize) -> Result<()> {
        self.stats.check(axis, channels)?;
        let have = self.len();
        if have == channels || have == 0 || channels == 0 {
            return Ok(());
        }
        Err(Error::Channels { have, want: channels })
    }

    /// Refuses what [`ChannelStats::check_room`] would, without counting what is held back.
    ///
    /// # Errors
    /// As [`ChannelStats::check_room`].
    pub fn check_room(&self, values: u64, observations: u64) -> Result<()> {
        let (held, holds) = self.values.as_ref().map_or((0, 0), |(values, _)| (values.len(), 1));
        let values = values.saturating_add(held as u64);
        self.stats.check_room(values, observations.saturating_add(holds))
    }

    /// All elements seen, of all channels.
    pub fn count(&self) -> u64 {
        self.values.as_ref().map_or(self.stats.count(), |(values, _)| values.len() as u64)
    }

    /// Number of observations.
    pub fn observations(&self) -> u64 {
        self.values.as_ref().map_or(self.stats.observations(), |_| 1)
    }

    /// The axis, as it was named.
    pub fn axis(&self) -> i64 {
        self.stats.axis()
    }

    /// Number of channels; 0 before the first observation.
    pub fn len(&self) -> usize {
        self.values.as_ref().map_or(self.stats.len(), |(_, shape)| shape.channels)
    }

    /// Whether nothing was observed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
