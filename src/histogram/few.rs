//! Counting some hundreds or thousands of values straight into the pages.
//!
//! Emptying a scratch table costs what counting thousands of values does. So the pages of a histogram
//! are laid out by the top nine bits of a float, sign and exponent, and each value finds its
//! counter in two steps. The pages of octaves that are met for the first time are made together.

use super::{Histogram, Pages, extremes::Summary, high::High};
use crate::{float::Layout, simd};

/// Octaves of both signs.
const BOTH: usize = 2 * Layout::OCTAVES;

/// Bytes of counters that are asked for beforehand.
const FETCHED: usize = 8192;

impl Histogram {
    /// Counts finite values, of which `seen` has the extremes and the zeros.
    pub(super) fn count_few(&mut self, values: &[f32], seen: &Summary, rest: &mut Vec<f32>) {
        let Some(pages) = &mut self.pages else { return };
        if seen.zeros * 8 > values.len() as u64 {
            let len = simd::without_zeros(values, rest, 0);
            pages.count_all(&rest[..len]);
        } else {
            pages.count_all(values);
        }
    }

    /// Asks for the memory of the counters, which is far away when many tensors take turns.
    pub(super) fn fetch_counters(&self) {
        if let Some(pages) = &self.pages {
            pages.directory.fetch();
            simd::fetch(&pages.low[..pages.low.len().min(FETCHED)]);
        }
    }
}

/// Where there is no page: beyond all counters.
const NOWHERE: u32 = u32::MAX >> 1;

impl Pages {
    fn count_all(&mut self, values: &[f32]) {
        let mut left = values;
        loop {
            let mut places = [NOWHERE; BOTH];
            self.directory.lay_out(self.layout().mantissa_bits(), &mut places);
            // Zeros are not counted, and what shares their octave is rare.
            (places[0], places[Layout::OCTAVES]) = (NOWHERE, NOWHERE);
            let met = simd::dispatch(CountKnown { values: left, places: &places, pages: self });
            let Some(met) = met else { return };
            left = &left[met..];
            let first = left[0].to_bits();
            if first << 1 >> 24 == 0 {
                self.increment((first >> self.layout().shift()) as usize);
                left = &left[1..];
            } else {
                self.make_all(left);
            }
        }
    }

    /// Makes pages for the octaves of some values.
    #[cold]
    fn make_all(&mut self, values: &[f32]) {
        let mut met = [false; BOTH];
        for x in values {
            met[(x.to_bits() >> 23) as usize] = true;
        }
        (met[0], met[Layout::OCTAVES]) = (false, false);
        let (mut octaves, mut number) = ([0; BOTH], 0);
        for (first, eight) in (0u16..).step_by(8).zip(met.as_chunks::<8>().0) {
            if *eight != [false; 8] {
                for (octave, _) in (first..).zip(eight).filter(|&(_, &met)| met) {
                    octaves[number] = octave;
                    number += 1;
                }
            }
        }
        self.make_pages(&octaves[..number]);
    }
}

/// Counts values up to one of an octave that has no page, zeros aside; results in its place.
struct CountKnown<'a> {
    values: &'a [f32],
    places: &'a [u32; BOTH],
    pages: &'a mut Pages,
}

impl simd::Work for CountKnown<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run(self) -> Option<usize> {
        let Self { values, places, pages } = self;
        let (layout, size) = (pages.layout(), pages.layout().bins_per_octave());
        let (shift, mask) = (layout.shift(), size as u32 - 1);
        let Pages { low, high, .. } = pages;
        let low = &mut low[..];
        // Eight times the same: else the processor would take one increment for the next one's cause.
        let values: &[u32] = bytemuck::must_cast_slice(values); // else they would go through vectors
        let (chunks, rest) = values.as_chunks::<8>();
        for (i, chunk) in chunks.iter().enumerate() {
            for (j, &bits) in chunk.iter().enumerate() {
                if !count(bits, places, shift, mask, low, high) {
                    return Some(8 * i + j);
                }
            }
        }
        for (i, &bits) in rest.iter().enumerate() {
            if !count(bits, places, shift, mask, low, high) {
                return Some(8 * chunks.len() + i);
            }
        }
        None
    }
}

/// Counts a value, if its octave has a page; a zero is left out.
#[inline(always)]
fn count(
    bits: u32,
    places: &[u32; BOTH],
    shift: u32,
    mask: u32,
    low: &mut [u8],
    high: &mut High,
) -> bool {
    let at = (places[(bits >> 23) as usize] + (bits >> shift & mask)) as usize;
    let Some(counter) = low.get_mut(at) else { return bits << 1 == 0 };
    let (sum, is_full) = counter.overflowing_add(1);
    *counter = sum;
    if is_full {
        carry(high, at, mask as usize + 1);
    }
    true
}

#[cold]
#[inline(never)]
fn carry(high: &mut High, at: usize, size: usize) {
    high.add(at / size, size, at % size, 1);
}
