//! One histogram for each channel of a tensor, from which per-channel ranges are computed.
//!
//! Channels are the slices along one axis. There are thousands, so their histograms are coarser
//! than those of tensors: 5 mantissa bits, bins of 3 %. The minimum and maximum of each channel are
//! exact. The extremes of each observation are not kept by channel.
//!
//! Each task records a block of channels (`block.rs`), so nothing is merged afterwards. Where there
//! are fewer channels than threads, each thread records some rows of all channels.

mod block;
mod deferred;
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

pub use self::{deferred::DeferredStats, finite::NonFiniteChannels};

/// Fewest channels of a block that threads share: one cache line of `f32`.
const NARROW: usize = 16;
/// Elements from which a second thread is used.
const PARALLEL: usize = 1 << 17;

/// One histogram for each channel of a tensor.
///
/// The first observation sets the number of channels. The axis keeps its sign: −1 is the last axis
/// of arrays of any rank, so it differs from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStats {
    axis: i64,
    template: Histogram, // an empty histogram, with which every channel begins
    channels: Vec<Histogram>,
    observations: u64,
}

impl ChannelStats {
    /// Default mantissa bits of the channels: bins of 3 %.
    pub const MANTISSA_BITS: u32 = 5;

    /// Statistics without observations.
    ///
    /// # Errors
    /// [`Error::MantissaBits`] outside 3…12.
    pub fn new(axis: i64, mantissa_bits: u32) -> Result<Self> {
        let template = Histogram::with_mantissa_bits(mantissa_bits)?;
        Ok(Self { axis, template, channels: Vec::new(), observations: 0 })
    }

    /// Statistics from the histograms of all channels.
    ///
    /// # Errors
    /// [`Error::Counts`] without channels or observations, or if channels differ in resolution or
    /// in their number of values; [`Error::TooMany`] as [`check_room`](Self::check_room).
    pub fn from_counts(axis: i64, channels: Vec<Histogram>, observations: u64) -> Result<Self> {
        let Some(first) = channels.first().filter(|_| observations > 0) else {
            return Err(Error::Counts("there are no channels or no observations"));
        };
        let template = first.like();
        if channels.iter().any(|h| !h.is_fixed() || h.mantissa_bits() != first.mantissa_bits()) {
            return Err(Error::Counts("the channels differ in resolution"));
        }
        if channels.iter().any(|h| h.count() != first.count()) {
            return Err(Error::Counts("the channels differ in their number of values"));
        }
        let stats = Self { axis, template, channels, observations };
        stats.check_room(0, 0)?;
        Ok(stats)
    }

    /// Adds one observation: contiguous data, each element of which is counted in its channel.
    /// O(elements).
    ///
    /// The result does not depend on the order or the split of the observations, nor on the number
    /// of threads.
    ///
    /// # Errors
    /// [`Error::Channels`] for another number of channels than before; [`Error::TooMany`] as
    /// [`check_room`](Self::check_room). Nothing is counted then.
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape`.
    pub fn observe<T: Element>(&mut self, values: &[T], shape: Shape) -> Result<()> {
        assert_eq!(values.len(), shape.len(), "the shape is that of the values");
        self.check(self.axis, shape.channels)?;
        self.check_room(values.len() as u64, 1)?;
        self.set_channels(shape.channels)?;
        self.observations += 1;
        if !values.is_empty() {
            simd::with_denormals(|| self.record(&Data { values, shape }));
        }
        Ok(())
    }

    fn record<T: Element>(&mut self, data: &Data<'_, T>) {
        let Data { values, shape } = *data;
        let histograms = &mut self.channels;
        let template = &self.template;
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
        // Too few channels for all threads: each records some rows of all channels.
        let rows = shape.outer.div_ceil(4 * threads);
        let parts = parallel::fold(
            true,
            (0..shape.outer).step_by(rows),
            || (vec![template.clone(); shape.channels], Vec::new()),
            |(part, tile), first| {
                data.record(part, 0, first..(first + rows).min(shape.outer), tile);
            },
        );
        for (part, _) in parts {
            merge_each(histograms, &part);
        }
    }

    /// Sets the number of channels if there are none yet; refuses another number.
    fn set_channels(&mut self, channels: usize) -> Result<()> {
        self.check(self.axis, channels)?;
        if self.channels.is_empty() {
            self.channels = vec![self.template.clone(); channels];
        }
        Ok(())
    }

    /// Adds other statistics of the same tensor. Of two resolutions the coarser one is kept.
    ///
    /// # Errors
    /// [`Error::Axis`] or [`Error::Channels`] if these differ; [`Error::TooMany`] as
    /// [`check_room`](Self::check_room). Nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check(other.axis, other.channels.len())?;
        self.check_room(other.count(), other.observations)?;
        if !other.channels.is_empty() {
            self.set_channels(other.channels.len())?;
        }
        self.template.add(&other.template);
        let channels = &mut self.channels;
        if other.channels.is_empty() {
            // Their resolution is merged even without values.
            for channel in channels.iter_mut() {
                channel.add(&other.template);
            }
        }
        let blocks = channels.chunks_mut(NARROW).zip(other.channels.chunks(NARROW));
        parallel::for_each(other.channels.len() >= 4 * NARROW, blocks, |(ours, theirs)| {
            merge_each(ours, theirs);
        });
        self.observations += other.observations;
        Ok(())
    }

    /// Checks that more values and observations can be counted. All channels together have the
    /// limit of one histogram.
    ///
    /// # Errors
    /// [`Error::TooMany`] if not.
    pub fn check_room(&self, values: u64, observations: u64) -> Result<()> {
        check_count(self.observations.saturating_add(observations))?;
        check_count(self.count().saturating_add(values))
    }

    /// Checks that statistics of this axis and number of channels can be [merged](Self::merge).
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

    /// Whether the other statistics have the same axis and the same initial resolution.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.axis == other.axis && self.template == other.template
    }

    /// The axis as given; a negative one counts from the end.
    pub fn axis(&self) -> i64 {
        self.axis
    }

    /// Number of channels; 0 before the first observation.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there was no observation yet.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The histograms, by channel.
    pub fn channels(&self) -> &[Histogram] {
        &self.channels
    }

    /// Number of observations, empty ones included.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// Number of elements of all channels, each of which has the same number.
    pub fn count(&self) -> u64 {
        let each = self.channels.first().map_or(0, Histogram::count);
        each.saturating_mul(self.channels.len() as u64)
    }

    /// The histogram of all channels together, at their resolution.
    pub fn total(&self) -> Histogram {
        let mut total = self.template.clone();
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
