//! The body of the statistics of one tensor by channel.

use super::{
    bytes::{Reader, Writer},
    histogram,
};
use crate::{ChannelStats, Histogram, error::Result};

pub(super) fn write(w: &mut Writer, stats: &ChannelStats) {
    // The sign is the lowest bit, so that −1 is as short as 1.
    w.number(((stats.axis() << 1) ^ (stats.axis() >> 63)) as u64);
    w.number(stats.observations());
    w.number(stats.len() as u64);
    for channel in stats.channels() {
        histogram::write(w, channel);
    }
}

pub(super) fn read(r: &mut Reader) -> Result<ChannelStats> {
    let folded = r.number()?;
    let axis = (folded >> 1) as i64 ^ -((folded & 1) as i64);
    let observations = r.number()?;
    let mut channels: Vec<Histogram> = Vec::new(); // grows with the bytes read
    for _ in 0..r.number()? {
        channels.push(histogram::read_like(channels.first(), r)?);
    }
    ChannelStats::from_counts(axis, channels, observations).map_err(histogram::altered)
}
