//! Emptying the scratch tables into the pages of a histogram.
//!
//! Octaves are visited from that of the largest magnitude down, until all elements are accounted
//! for: those above and below, where activations never are, are not touched. (Those above are, if
//! some are left: another thread may have written to the array between two looks at it.)

use std::ops::Range;

use super::{
    Histogram,
    extremes::Summary,
    tables::{FULL, Scheme, Tables},
};
use crate::float::Layout;

/// What the scratch tables hold, without the zeros.
pub(super) struct Found {
    pub(super) octaves: Vec<u16>, // of the layout, that have values; lent by the tables
    pub(super) non_finite: bool,  // whether there are NaN or infinities
}

impl Scheme {
    /// The codes of an octave.
    fn codes_of(self, sign: usize, octave: usize) -> Range<usize> {
        let first = (sign * self.octaves + octave) << self.mantissa_bits;
        first..first + (1 << self.mantissa_bits)
    }
}

impl Tables {
    /// Finds the octaves that have values. `left` elements should be in the tables, zeros aside;
    /// `None` if not all are: a counter was full, and nobody looked.
    pub(super) fn find(
        &mut self,
        scheme: Scheme,
        layout: Layout,
        seen: &Summary,
        left: u64,
    ) -> Option<Found> {
        let Scheme { octaves, offset, .. } = scheme;
        let mut filled = std::mem::take(&mut self.octaves);
        filled.clear();
        let sum = |sign: usize, octave: usize| self.sum(scheme.codes_of(sign, octave));
        let mut left = left.checked_sub(self.full.len() as u64 * FULL)?;
        let is_odd = |&code: &u32| (code as usize >> scheme.mantissa_bits) % octaves == octaves - 1;
        let odd = sum(0, octaves - 1) + sum(1, octaves - 1);
        left = left.checked_sub(odd)?;
        let non_finite = odd > 0 || self.full.iter().any(is_odd);
        let largest = layout.code(seen.min.abs().max(seen.max.abs())) >> scheme.mantissa_bits;
        let likely = largest.saturating_sub(offset).min(octaves - 2) + 1;
        for octave in (0..likely).rev().chain(likely..octaves - 1) {
            if left == 0 {
                break;
            }
            for sign in [0, 1] {
                let sum = sum(sign, octave);
                if sum > 0 {
                    filled.push((sign * Layout::OCTAVES + offset + octave) as u16);
                }
                left = left.checked_sub(sum)?;
            }
        }
        (left == 0).then_some(Found { octaves: filled, non_finite })
    }
}

impl Histogram {
    /// Adds what was found in the scratch tables to the pages, but for values that are not finite, and
    /// clears the tables.
    pub(super) fn empty(&mut self, tables: &mut Tables, scheme: Scheme, found: &Found) {
        let Scheme { mantissa_bits, octaves, offset } = scheme;
        let layout = self.layout();
        let Some(pages) = &mut self.pages else { return };
        for same in tables.take_full().chunk_by(|a, b| a == b) {
            let (code, count) = (same[0] as usize, same.len() as u64 * FULL);
            let (sign, octave) =
                ((code >> mantissa_bits) / octaves, (code >> mantissa_bits) % octaves);
            if octave == octaves - 1 {
                continue;
            }
            if octave == 0 && offset > 0 {
                pages.add(subnormal(layout, code, scheme), count);
            } else {
                let shift = (sign * (Layout::OCTAVES - octaves) + offset) << mantissa_bits;
                pages.add(code + shift, count);
            }
        }
        if found.non_finite {
            for sign in [0, 1] {
                tables.take_range(scheme.codes_of(sign, octaves - 1), |_| ());
            }
        }
        pages.reserve(&found.octaves);
        for page in found.octaves.iter().map(|&page| usize::from(page)) {
            let octave = page % Layout::OCTAVES - offset;
            let range = scheme.codes_of(page / Layout::OCTAVES, octave);
            let first = range.start;
            tables.take_range(range, |counts| {
                if octave == 0 && offset > 0 {
                    for counts in counts {
                        for (code, &count) in (first..).zip(*counts).filter(|&(_, &n)| n != 0) {
                            pages.add(subnormal(layout, code, scheme), u64::from(count));
                        }
                    }
                } else {
                    pages.add_octave(page, counts);
                }
            });
        }
    }
}

/// The code in the layout of a subnormal of float16: number k is k · 2^-24.
fn subnormal(layout: Layout, code: usize, scheme: Scheme) -> usize {
    let first_negative = scheme.octaves << scheme.mantissa_bits;
    let magnitude = (code % first_negative) as f32 * f32::from_bits((127 - 24) << 23);
    layout.code(if code < first_negative { magnitude } else { -magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::BLOCK;

    #[test]
    fn what_is_in_the_tables_is_found_whatever_was_seen_of_it() {
        let values: Vec<f32> = (0..2000).map(|i| f32::from_bits((27 + i % 200) << 23)).collect();
        let layout = Layout::of(8);
        let scheme = Scheme::of::<f32>(layout);
        let mut tables = Tables::new();
        tables.prepare(scheme);
        for block in values.chunks(BLOCK) {
            tables.count(block, scheme, true, &mut Summary::new());
        }
        for (min, max) in [(-2.0, 1.0), (0.0, 0.0), (f32::MIN, f32::MAX), (1e-45, 1e-45)] {
            let seen = Summary { min, max, zeros: 0 };
            let found = tables.find(scheme, layout, &seen, 2000).expect("all are there");
            assert_eq!(found.octaves.len(), 200, "from {min} to {max}");
            assert!(tables.find(scheme, layout, &seen, 2001).is_none());
            assert!(tables.find(scheme, layout, &seen, 1999).is_none());
        }
    }
}
