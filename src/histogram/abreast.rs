//! Counting many channels abreast: nothing is gathered, every element goes straight to a counter
//! of its channel.
//!
//! Gathering the elements of a channel first costs more than counting them. Here the scratch table
//! holds the counters of a block of channels, octave by octave, and in an octave channel by
//! channel: what activations fill, some eight octaves of either sign, lies together and stays in
//! the second-level cache, while the rest of the table is never touched. Neighbours along the
//! last axis belong to different channels, so they do not wait for each other's increments.
//! Where the channels are last, rows are copied a tile at a time, in the order of memory.

use std::{cell::RefCell, ops::Range};

use super::{
    Histogram, Pages,
    count::drops_nothing,
    extremes::{NonFinite, Summary},
};
use crate::{
    float::{BLOCK, Element, Layout},
    simd,
};

/// Most channels of a block.
pub(crate) const WIDTH: usize = 128;
/// Elements of a channel between two emptyings: what a counter of 16 bits can hold.
const MOST: usize = u16::MAX as usize;
/// Elements of a channel from which emptying the table is worth it.
const FEWEST: usize = 256;
/// Elements of a channel in a row from which it pays; of 49, gathering is as fast.
const LONG: usize = 256;
/// Elements of a row from which it pays if each is of another channel; with 64 channels, whose rows
/// follow each other in memory, gathering is faster.
const WIDE: usize = 1024;
/// Finest resolution: the table of a block would be too large for the cache.
const FINEST: u32 = 6;
/// Channels between octaves, so that a channel's octaves do not fall onto the same cache lines.
const PAD: u32 = 17;
/// Rows that are copied together, from where they are counted a strip of [`LANES`] channels at a
/// time: the counters of a strip stay in the first-level cache.
const TILE: usize = 128;
/// Rows between one that is copied and one that is fetched: they lie too far apart for the processor
/// to fetch ahead by itself.
const ROWS_AHEAD: usize = 6;
/// Rows of a strip whose places are worked out before they are counted.
const TOGETHER: usize = 8;
/// Elements that are worked on together.
const LANES: usize = 16;
/// Number of the octave that zeros have for themselves, one counter for each lane.
const ZEROS: u32 = 2 * Layout::OCTAVES as u32;
/// Octaves of the table: a power of two.
const OCTAVES: usize = 4 * Layout::OCTAVES;

thread_local! {
    /// Counters by octave, channel and bin, all zero between uses; a tile of values.
    static SCRATCH: RefCell<(Vec<u16>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Rows of a tensor, in each of which every channel has `inner` elements in a row.
#[derive(Clone)]
pub(crate) struct Abreast<'a, T> {
    /// all elements, row by row
    pub(crate) values: &'a [T],
    /// elements of a row
    pub(crate) stride: usize,
    /// place in its row of the first element of the first channel
    pub(crate) first: usize,
    /// elements of a channel in a row
    pub(crate) inner: usize,
    /// the rows that are to be counted
    pub(crate) rows: Range<usize>,
}

impl<T: Element> Abreast<'_, T> {
    /// Whether this way of counting pays at a resolution.
    pub(crate) fn pays(&self, mantissa_bits: u32) -> bool {
        ((self.inner == 1 && self.stride >= WIDE) || self.inner >= LONG)
            && self.inner <= MOST
            && self.rows.len() * self.inner >= FEWEST
            && mantissa_bits <= FINEST
    }

    /// Records the channels, at most [`WIDTH`] of one resolution, each in its histogram.
    pub(crate) fn record(&self, histograms: &mut [Histogram]) {
        let Some(layout) =
            histograms.iter_mut().map(Histogram::settle::<T>).min_by_key(|l| l.mantissa_bits())
        else {
            return;
        };
        SCRATCH.with_borrow_mut(|(scratch, tile)| {
            let size = (OCTAVES * WIDTH) << layout.mantissa_bits();
            if scratch.len() < size {
                *scratch = vec![0; size];
            }
            let table = &mut scratch[..size];
            for start in self.rows.clone().step_by(MOST / self.inner) {
                let rows = start..(start + MOST / self.inner).min(self.rows.end);
                let part = Self { rows, ..*self };
                let mut seen = Seen::new();
                simd::dispatch(Count {
                    data: &part,
                    layout,
                    table,
                    tile,
                    seen: &mut seen,
                    width: histograms.len(),
                });
                for (channel, histogram) in histograms.iter_mut().enumerate() {
                    part.empty(channel, histogram, table, &seen);
                }
            }
        });
    }

    /// Elements of one channel, a run for each row.
    fn runs(&self, channel: usize) -> impl Iterator<Item = &[T]> {
        let at = self.first + channel * self.inner;
        self.rows.clone().map(move |row| &self.values[row * self.stride + at..][..self.inner])
    }

    /// Adds the counters of one channel to its histogram and clears them: octave by octave from
    /// that of the largest magnitude down, until all elements are accounted for.
    fn empty(&self, channel: usize, histogram: &mut Histogram, table: &mut [u16], seen: &Seen) {
        let layout = histogram.layout();
        let bins = layout.bins_per_octave();
        let place = Place { m: layout.mantissa_bits() };
        let mut octave = |octave: usize, pages: Option<&mut Pages>| {
            let counters = &mut table[octave * place.octave() as usize + channel * bins..][..bins];
            let sum = counters.iter().map(|&n| u32::from(n)).sum::<u32>();
            if sum > 0 {
                if let Some(pages) = pages {
                    pages.add_octave(octave, &[counters]);
                }
                counters.fill(0);
            }
            u64::from(sum)
        };
        let len = self.rows.len() * self.inner;
        let mut summary = Summary::new();
        (summary.min, summary.max) = (seen.min[channel], seen.max[channel]);
        summary.zeros = octave(ZEROS as usize, None);
        let non_finite = octave(Layout::OCTAVES - 1, None) + octave(2 * Layout::OCTAVES - 1, None);
        let mut left = len as u64 - summary.zeros - non_finite;
        let largest = layout.code(summary.min.abs().max(summary.max.abs()));
        let top = (largest >> layout.mantissa_bits()).min(Layout::OCTAVES - 2);
        for magnitude in (0..=top).rev() {
            if left == 0 {
                break;
            }
            for sign in [0, Layout::OCTAVES] {
                left -= octave(sign + magnitude, histogram.pages.as_mut());
            }
        }
        debug_assert_eq!(left, 0, "every element has a code");
        let mut dropped = !layout.keeps(seen.bits[channel]);
        let mut special = NonFinite::default();
        if non_finite > 0 {
            let zeros = summary.zeros;
            summary = Summary::new();
            dropped = false;
            let mut buffer = [0.0; BLOCK];
            for block in self.runs(channel).flat_map(|run| run.chunks(BLOCK)) {
                special.count(T::widen(block, &mut buffer), &mut summary);
                dropped |= !drops_nothing(block, layout);
            }
            debug_assert_eq!(summary.zeros, zeros, "zeros are zeros");
        }
        histogram.exact = histogram.exact && !dropped;
        histogram.include(&summary, &special, len);
    }
}

/// What is found on the way, by channel.
struct Seen {
    min: [f32; WIDTH],
    max: [f32; WIDTH],
    bits: [u32; WIDTH], // all that are set in some value
}

impl Seen {
    fn new() -> Self {
        Self { min: [f32::INFINITY; WIDTH], max: [f32::NEG_INFINITY; WIDTH], bits: [0; WIDTH] }
    }

    /// Counts some channels of rows that have an element of each.
    #[inline(always)]
    fn strip<const N: usize>(
        &mut self,
        tile: &[f32],
        width: usize,
        first: usize,
        place: Place,
        table: &mut [u16],
    ) {
        let (mut min, mut max) = ([f32::INFINITY; N], [f32::NEG_INFINITY; N]);
        let mut bits = [0; N];
        let mut places = [[0; N]; TOGETHER];
        for rows in tile.chunks(TOGETHER * width) {
            let mut filled = 0;
            for (row, out) in rows.chunks_exact(width).zip(&mut places) {
                let Some(row) = row[first..].first_chunk::<N>() else { continue };
                for i in 0..N {
                    let x = row[i];
                    min[i] = if x < min[i] { x } else { min[i] };
                    max[i] = if x > max[i] { x } else { max[i] };
                    bits[i] |= x.to_bits();
                    out[i] = place.of(x.to_bits(), (first + i) as u32, 0);
                }
                filled += 1;
            }
            add(places[..filled].as_flattened(), table);
        }
        for (i, channel) in (first..first + N).enumerate() {
            self.min[channel] = self.min[channel].min(min[i]);
            self.max[channel] = self.max[channel].max(max[i]);
            self.bits[channel] |= bits[i];
        }
    }
}

struct Count<'a, 'b, T> {
    data: &'a Abreast<'b, T>,
    layout: Layout,
    table: &'a mut [u16],
    tile: &'a mut Vec<f32>,
    seen: &'a mut Seen,
    width: usize,
}

impl<T: Element> simd::Work for Count<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { data, layout, table, tile, seen, width } = self;
        let place = Place { m: layout.mantissa_bits() };
        let row = |row: usize| &data.values[row * data.stride + data.first..][..width * data.inner];
        if data.inner > 1 {
            let mut places = [0; WIDTH];
            for first in (0..width).step_by(LANES) {
                let strip = first..(first + LANES).min(width);
                for row in data.rows.clone().map(row) {
                    let row = &row[first * data.inner..strip.end * data.inner];
                    for (channel, run) in strip.clone().zip(row.chunks_exact(data.inner)) {
                        along(run, channel, place, table, seen, &mut places);
                    }
                }
            }
            return;
        }
        for start in data.rows.clone().step_by(TILE) {
            let rows = start..(start + TILE).min(data.rows.end);
            tile.clear();
            for at in rows {
                simd::fetch(row((at + ROWS_AHEAD).min(data.rows.end - 1)));
                tile.extend(row(at).iter().map(|x| x.to_f32()));
            }
            for first in (0..width).step_by(LANES) {
                if first + LANES <= width {
                    seen.strip::<LANES>(tile, width, first, place, table);
                } else {
                    for channel in first..width {
                        seen.strip::<1>(tile, width, channel, place, table);
                    }
                }
            }
        }
    }
}

/// Where a value's counter is.
#[derive(Clone, Copy)]
struct Place {
    m: u32,
}

impl Place {
    #[inline(always)]
    fn of(self, bits: u32, channel: u32, lane: u32) -> u32 {
        let bin = bits >> (23 - self.m) & ((1 << self.m) - 1);
        let normal = (bits >> 23) * self.octave() + bin;
        let zero = ZEROS * self.octave() + (lane & ((1 << self.m) - 1));
        (if bits << 1 == 0 { zero } else { normal }) + (channel << self.m)
    }

    /// Counters of an octave.
    #[inline(always)]
    fn octave(self) -> u32 {
        (WIDTH as u32 + PAD) << self.m
    }
}

/// Counts neighbours that belong to the same channel.
#[inline(always)]
fn along<T: Element>(
    run: &[T],
    channel: usize,
    place: Place,
    table: &mut [u16],
    seen: &mut Seen,
    places: &mut [u32; WIDTH],
) {
    let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut bits = [0; LANES];
    for step in run.chunks(WIDTH) {
        let places = &mut places[..step.len()];
        let (chunks, rest) = step.as_chunks::<LANES>();
        let (out, out_rest) = places.as_chunks_mut::<LANES>();
        for (chunk, out) in chunks.iter().zip(out) {
            for i in 0..LANES {
                let x = chunk[i].to_f32();
                min[i] = if x < min[i] { x } else { min[i] };
                max[i] = if x > max[i] { x } else { max[i] };
                bits[i] |= x.to_bits();
                out[i] = place.of(x.to_bits(), channel as u32, i as u32);
            }
        }
        for (i, (x, out)) in rest.iter().zip(out_rest).enumerate() {
            let x = x.to_f32();
            min[i] = if x < min[i] { x } else { min[i] };
            max[i] = if x > max[i] { x } else { max[i] };
            bits[i] |= x.to_bits();
            *out = place.of(x.to_bits(), channel as u32, i as u32);
        }
        add(places, table);
    }
    for i in 0..LANES {
        seen.min[channel] = seen.min[channel].min(min[i]);
        seen.max[channel] = seen.max[channel].max(max[i]);
        seen.bits[channel] |= bits[i];
    }
}

#[inline(always)]
fn add(places: &[u32], table: &mut [u16]) {
    let mask = table.len() - 1;
    let table = &mut table[..=mask];
    for &place in places {
        table[place as usize & mask] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_counted_abreast_are_the_histograms_of_their_values() {
        for (rows, channels, inner) in [(300, 37, 1), (70_000, 3, 1), (5, 20, 49), (90, 3, 784)] {
            let mut state = 1u32;
            let values: Vec<f32> = (0..rows * channels * inner)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match i % 7 {
                        0 => 0.0,
                        1 => f32::from_bits(state), // anything, NaN and infinities too
                        _ => (state >> 8) as f32 - 8_000_000.0,
                    }
                })
                .collect();
            let kind = Histogram::with_mantissa_bits(5).expect("in range");
            let mut counted = vec![kind.clone(); channels];
            let stride = channels * inner;
            let data = Abreast { values: &values, stride, first: 0, inner, rows: 0..rows };
            data.record(&mut counted);
            for (channel, counted) in counted.iter().enumerate() {
                let own: Vec<f32> = data.runs(channel).flatten().copied().collect();
                let mut expected = kind.clone();
                expected.record(&own);
                assert!(*counted == expected, "channel {channel} of {channels}, {inner} inside");
            }
        }
    }
}
