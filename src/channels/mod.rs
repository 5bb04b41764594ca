//! Many histograms of one tensor, one for each channel: what per-channel ranges are computed from.
//!
//! The channels are the slices along one axis. Their histograms are coarser than those of whole
//! tensors (5 mantissa bits: bins of 3 %), because there are thousands of them; the extremes are
//! exact all the same. The extremes of each observation are not kept by channel.
//!
//! Recording works on blocks of channels (`block.rs`), each the property of one task, so nothing is
//! merged afterwards; where there are fewer channels than threads, each takes some rows of all.

mod block;
mod finite;

use self::block::{Data, WIDTH};
use crate::{
    Histogram,
    error::{Error, Result},
    float::Element,
    histogram::check_count,
    parallel,
    shape::Shape,
    simd,
};

pub use self::finite::NonFinite;

/// Fewest channels of a block, one cache line of `f32`, if there are so many.
const NARROW: usize = 16;
/// Below this, a second thread is not worth waking.
const PARALLEL: usize = 1 << 17;

/// One histogram for each channel of a tensor.
///
/// The number of channels is that of the first observation. The axis is kept as it is named, with
/// its sign: −1 is the last one of arrays of any rank, and not the same as 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStats {
    axis: i64,
    kind: Histogram, // an empty one, as every channel begins
    channels: Vec<Histogram>,
    observations: u64,
}

impl ChannelStats {
    /// Mantissa bits of every channel unless told otherwise: bins of 3 %.
    pub const MANTISSA_BITS: u32 = 5;

    /// Statistics of nothing yet.
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12.
    pub fn new(axis: i64, mantissa_bits: u32) -> Result<Self> {
        let kind = Histogram::with_mantissa_bits(mantissa_bits)?;
        Ok(Self { axis, kind, channels: Vec::new(), observations: 0 })
    }

    /// Statistics that were made elsewhere.
    ///
    /// # Errors
    /// [`Error::Counts`] if the channels differ in resolution or in their number of values, or
    /// there are none; [`Error::TooMany`] as [`check_room`](Self::check_room).
    pub fn from_counts(axis: i64, channels: Vec<Histogram>, observations: u64) -> Result<Self> {
        let Some(first) = channels.first().filter(|_| observations > 0) else {
            return Err(Error::Counts("a tensor by channel without any"));
        };
        let kind = first.like();
        if channels.iter().any(|h| !h.is_fixed() || h.mantissa_bits() != first.mantissa_bits()) {
            return Err(Error::Counts("the channels differ in resolution"));
        }
        if channels.iter().any(|h| h.count() != first.count()) {
            return Err(Error::Counts("the channels differ in their number of values"));
        }
        let stats = Self { axis, kind, channels, observations };
        stats.check_room(0, 0)?;
        Ok(stats)
    }

    /// Adds one observation: contiguous data, of which every element is counted in its channel.
    ///
    /// The result does not depend on the order or the split of the observations, nor on the
    /// number of threads. O(elements).
    ///
    /// # Errors
    /// [`Error::Channels`] if there was another number of channels before, [`Error::TooMany`] as
    /// [`check_room`](Self::check_room); nothing is counted then.
    ///
    /// # Panics
    /// If `values` has not as many elements as `shape` says.
    pub fn observe<T: Element>(&mut self, values: &[T], shape: Shape) -> Result<()> {
        assert_eq!(values.len(), shape.len(), "the shape is that of the values");
        self.check(self.axis, shape.channels)?;
        self.check_room(values.len() as u64, 1)?;
        self.settle(shape.channels)?;
        self.observations += 1;
        if !values.is_empty() {
            simd::with_subnormals(|| self.record(&Data { values, shape }));
        }
        Ok(())
    }

    fn record<T: Element>(&mut self, data: &Data<'_, T>) {
        let Data { values, shape } = *data;
        let histograms = &mut self.channels;
        let kind = &self.kind;
        let threads = parallel::threads(values.len() >= PARALLEL);
        let width = match threads {
            1 => WIDTH,
            _ => shape.channels.div_ceil(4 * threads).clamp(NARROW, WIDTH),
        };
        if shape.channels.div_ceil(width) >= threads || shape.outer < threads {
            let blocks = histograms.chunks_mut(width).enumerate();
            parallel::fold(threads > 1, blocks, Vec::new, |tile, (k, block)| {
                data.record(block, k * width, 0..shape.outer, tile);
            });
            return;
        }
        // Too few channels to go round: every thread takes some rows of all of them.
        let rows = shape.outer.div_ceil(4 * threads);
        let parts = parallel::fold(
            true,
            (0..shape.outer).step_by(rows),
            || (vec![kind.clone(); shape.channels], Vec::new()),
            |(part, tile), first| {
                data.record(part, 0, first..(first + rows).min(shape.outer), tile);
            },
        );
        for (part, _) in parts {
            merge_each(histograms, &part);
        }
    }

    /// Refuses another number of channels than there is; takes the first one.
    fn settle(&mut self, channels: usize) -> Result<()> {
        self.check(self.axis, channels)?;
        if self.channels.is_empty() {
            self.channels = vec![self.kind.clone(); channels];
        }
        Ok(())
    }

    /// Adds the statistics of the same tensor from elsewhere. Of two resolutions the coarser one
    /// is kept.
    ///
    /// # Errors
    /// [`Error::Axis`] or [`Error::Channels`] if these differ, [`Error::TooMany`] as
    /// [`check_room`](Self::check_room); nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check(other.axis, other.channels.len())?;
        self.check_room(other.count(), other.observations)?;
        if !other.channels.is_empty() {
            self.settle(other.channels.len())?;
        }
        self.kind.add(&other.kind);
        let channels = &mut self.channels;
        if other.channels.is_empty() {
            // Their resolution counts all the same.
            for channel in channels.iter_mut() {
                channel.add(&other.kind);
            }
        }
        let blocks = channels.chunks_mut(NARROW).zip(other.channels.chunks(NARROW));
        parallel::for_each(other.channels.len() >= 4 * NARROW, blocks, |(ours, theirs)| {
            merge_each(ours, theirs);
        });
        self.observations += other.observations;
        Ok(())
    }

    /// Refuses more values, or more observations, than can be counted beside those that are: of all
    /// channels together as many as of a whole tensor.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn check_room(&self, values: u64, observations: u64) -> Result<()> {
        check_count(self.observations.saturating_add(observations))?;
        check_count(self.count().saturating_add(values))
    }

    /// Whether statistics along `axis` of so many `channels` could be [merged](Self::merge) into
    /// these.
    ///
    /// # Errors
    /// [`Error::Axis`] or [`Error::Channels`] if not.
    pub fn check(&self, axis: i64, channels: usize) -> Result<()> {
        if self.axis != axis {
            return Err(Error::Axis { have: self.axis, want: axis });
        }
        let have = self.channels.len();
        if have == channels || have == 0 || channels == 0 {
            return Ok(());
        }
        Err(Error::Channels { have, want: channels })
    }

    /// Whether observations of the other would be counted the same here: along the same axis, at the
    /// same resolution.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.axis == other.axis && self.kind == other.kind
    }

    /// The axis, as it was named: negative ones count from the end.
    pub fn axis(&self) -> i64 {
        self.axis
    }

    /// Number of channels; 0 before the first observation.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether nothing was observed yet.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The histograms, by channel.
    pub fn channels(&self) -> &[Histogram] {
        &self.channels
    }

    /// Number of observations, those of nothing included.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// All elements seen, of all channels; each has as many.
    pub fn count(&self) -> u64 {
        let each = self.channels.first().map_or(0, Histogram::count);
        each.saturating_mul(self.channels.len() as u64)
    }

    /// All channels together: the histogram of the whole tensor, at the channels' resolution.
    pub fn total(&self) -> Histogram {
        let mut total = self.kind.clone();
        for histogram in &self.channels {
            total.add(histogram);
        }
        total
    }

    /// Bytes of memory.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.channels.iter().map(Histogram::memory).sum::<usize>()
    }
}

fn merge_each(ours: &mut [Histogram], theirs: &[Histogram]) {
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        ours.add(theirs);
    }
}
