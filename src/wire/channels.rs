//! The body of one tensor's statistics by channel.

use super::{
    bytes::{Reader, Writer},
    histogram,
};
use crate::{
    ChannelStats, Histogram,
    error::{Error, Result},
};

pub(super) fn write(w: &mut Writer, stats: &ChannelStats) {
    // The sign goes into the lowest bit, so that −1 is as short as 1.
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
        let channel = histogram::read(r)?;
        let first = channels.first().unwrap_or(&channel);
        if !channel.is_fixed() || channel.mantissa_bits() != first.mantissa_bits() {
            return Err(Error::Altered("the channels differ in resolution"));
        }
        if channel.count() != first.count() {
            return Err(Error::Altered("the channels differ in their number of values"));
        }
        channels.push(channel);
    }
    if channels.is_empty() || observations == 0 {
        return Err(Error::Altered("a tensor by channel without any"));
    }
    Ok(ChannelStats::from_parts(axis, channels, observations))
}
