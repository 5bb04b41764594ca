//! Whether all values are finite; if not, which channel is the first with others.

use super::ChannelStats;
use crate::{
    Histogram,
    float::{Element, WIDEN_BLOCK, are_finite},
    parallel,
    shape::Shape,
};

/// Elements from which a second thread is used.
const PARALLEL: usize = 1 << 20;

impl ChannelStats {
    /// Finds the channels of contiguous data that have NaN or infinities. O(elements).
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape`.
    pub fn non_finite<T: Element>(values: &[T], shape: Shape) -> Option<NonFiniteChannels> {
        assert_eq!(values.len(), shape.len(), "the shape is that of the values");
        let blocks = values.chunks(8 * WIDEN_BLOCK);
        let finite = |all: &mut bool, block: &[T]| *all = *all && are_finite(block);
        if !parallel::fold(values.len() >= PARALLEL, blocks, || true, finite).contains(&false) {
            return None;
        }
        let mut of_channels = Self::new(0, Self::MANTISSA_BITS).ok()?;
        of_channels.observe(values, shape).ok()?;
        let tainted = |h: &Histogram| h.finite() < h.count();
        let channel = of_channels.channels.iter().position(tainted)?;
        let channels = of_channels.channels.iter().filter(|h| tainted(h)).count();
        let histogram = of_channels.channels.swap_remove(channel);
        Some(NonFiniteChannels { channel, channels, histogram })
    }
}

/// Channels that have NaN or infinities.
#[derive(Debug, Clone, PartialEq)]
pub struct NonFiniteChannels {
    /// the first of them
    pub channel: usize,
    /// how many there are
    pub channels: usize,
    /// the histogram of the first
    pub histogram: Histogram,
}
