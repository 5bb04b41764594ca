//! Whether all values are finite, and if not, in which channel.

use super::ChannelStats;
use crate::{
    Histogram,
    float::{BLOCK, Element, are_finite},
    parallel,
    shape::Shape,
};

/// Below this, a second thread is not worth waking: only reading takes time.
const PARALLEL: usize = 1 << 20;

impl ChannelStats {
    /// The first channel with NaN or infinities among contiguous data, if there is one.
    /// O(elements).
    ///
    /// # Panics
    /// If `values` has not as many elements as `shape` says.
    pub fn non_finite<T: Element>(values: &[T], shape: Shape) -> Option<NonFinite> {
        assert_eq!(values.len(), shape.len(), "the shape is that of the values");
        let blocks = values.chunks(8 * BLOCK);
        let finite = |all: &mut bool, block: &[T]| *all = *all && are_finite(block);
        if !parallel::fold(values.len() >= PARALLEL, blocks, || true, finite).contains(&false) {
            return None;
        }
        let mut of_channels = Self::new(0, Self::MANTISSA_BITS).ok()?;
        of_channels.observe(values, shape).ok()?;
        let tainted = |h: &Histogram| h.finite() < h.count();
        let channel = of_channels.channels.iter().position(tainted)?;
        let channels = of_channels.channels.iter().filter(|h| tainted(h)).count();
        Some(NonFinite { channel, channels, histogram: of_channels.channels.swap_remove(channel) })
    }
}

/// What [`ChannelStats::non_finite`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct NonFinite {
    /// the first channel with values that are not finite
    pub channel: usize,
    /// how many channels have such values
    pub channels: usize,
    /// all values of the first
    pub histogram: Histogram,
}
