//! Counting up to some thousand values straight into the pages.
//!
//! Flushing scratch counters costs as much as counting thousands of values. So the pages are first
//! laid out by the top nine bits of a float, its sign and exponent. Each value then finds its
//! counter in two steps, in 0.9 ns. Octaves without a page get theirs together.

use crate::{
    float::Layout,
    histogram::{
        Histogram,
        kernel::Summary,
        store::{Overflow, Pages},
    },
    simd,
};

/// Octaves of both signs.
const BOTH: usize = 2 * Layout::OCTAVES;

/// Bytes of counters that are prefetched.
const FETCHED: usize = 8192;

impl Histogram {
    /// Counts finite values, whose zeros `seen` has counted. `nonzero` is a buffer.
    pub(super) fn count_small(&mut self, values: &[f32], seen: &Summary, nonzero: &mut Vec<f32>) {
        let Some(pages) = &mut self.pages else { return };
        if seen.zeros * 8 > values.len() as u64 {
            let len = simd::without_zeros(values, nonzero, 0);
            pages.count_all(&nonzero[..len]);
        } else {
            pages.count_all(values);
        }
    }

    /// Prefetches the counters. Those of one tensor leave the cache while others are observed.
    pub(super) fn fetch_counters(&self) {
        if let Some(pages) = &self.pages {
            pages.directory.fetch();
            simd::fetch(&pages.low[..pages.low.len().min(FETCHED)]);
        }
    }
}

/// The place of an octave without a page: beyond all counters.
const NO_PAGE: u32 = u32::MAX >> 1;

impl Pages {
    fn count_all(&mut self, values: &[f32]) {
        let mut left = values;
        loop {
            let mut places = [NO_PAGE; BOTH];
            self.directory.lay_out(self.layout().mantissa_bits(), &mut places);
            // Zeros are not counted, and other values of their octave are rare.
            (places[0], places[Layout::OCTAVES]) = (NO_PAGE, NO_PAGE);
            let met = simd::dispatch(CountKnown { values: left, places: &places, pages: self });
            let Some(met) = met else { return };
            left = &left[met..];
            let first = left[0].to_bits();
            if first << 1 >> 24 == 0 {
                self.increment((first >> self.layout().shift()) as usize);
                left = &left[1..];
            } else {
                self.make_pages_for(left);
            }
        }
    }

    /// Makes pages for the octaves of some values.
    #[cold]
    fn make_pages_for(&mut self, values: &[f32]) {
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

/// Counts values up to the first whose octave has no page, leaving out zeros. Returns its place.
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
        let Pages { low, overflow, .. } = pages;
        let low = &mut low[..];
        // Unrolled eight times: in a plain loop the processor takes the load of one increment to
        // depend on the store of the one before, and a value takes 1.7 instead of 0.9 ns. Read as
        // integers, because floats would go through vector registers.
        let values: &[u32] = bytemuck::must_cast_slice(values);
        let (chunks, rest) = values.as_chunks::<8>();
        for (i, chunk) in chunks.iter().enumerate() {
            for (j, &bits) in chunk.iter().enumerate() {
                if !count(bits, places, shift, mask, low, overflow) {
                    return Some(8 * i + j);
                }
            }
        }
        for (i, &bits) in rest.iter().enumerate() {
            if !count(bits, places, shift, mask, low, overflow) {
                return Some(8 * chunks.len() + i);
            }
        }
        None
    }
}

/// Counts a value unless it is zero. Returns false if its octave has no page.
#[inline(always)]
fn count(
    bits: u32,
    places: &[u32; BOTH],
    shift: u32,
    mask: u32,
    low: &mut [u8],
    overflow: &mut Overflow,
) -> bool {
    let at = (places[(bits >> 23) as usize] + (bits >> shift & mask)) as usize;
    let Some(counter) = low.get_mut(at) else { return bits << 1 == 0 };
    let (sum, has_wrapped) = counter.overflowing_add(1);
    *counter = sum;
    if has_wrapped {
        carry(overflow, at, mask as usize + 1);
    }
    true
}

#[cold]
#[inline(never)]
fn carry(overflow: &mut Overflow, at: usize, size: usize) {
    overflow.add(at / size, size, at % size, 1);
}
