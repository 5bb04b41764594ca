//! Flushing the scratch counters into the pages of a histogram.
//!
//! Octaves are visited from that of the largest magnitude down, until all elements are found.
//! Visiting every octave would take 45 µs a call, four times the counting of 16,384 elements.

use crate::{
    float::Layout,
    histogram::{
        Histogram,
        kernel::{CodeSpace, Subhistograms, Summary, WRAP},
    },
};

/// Where the scratch counters have values, zeros aside.
pub(super) struct Occupied {
    pub(super) octaves: Vec<u16>, // numbers in the layout; a buffer of the scratch counters
    pub(super) non_finite: bool,  // whether there are NaN or infinities
}

impl Subhistograms {
    /// Finds the octaves that have values. Zeros aside, `left` elements were counted; returns
    /// `None` if the counters sum to another number, because one wrapped in an unchecked count.
    ///
    /// The octaves above the maximum are visited last, and only if elements are missing. Another
    /// thread may write to the array between the scan and the count of a value.
    pub(super) fn occupied(
        &mut self,
        space: CodeSpace,
        layout: Layout,
        seen: &Summary,
        left: u64,
    ) -> Option<Occupied> {
        let CodeSpace { octaves, offset, .. } = space;
        let mut filled = std::mem::take(&mut self.octaves);
        filled.clear();
        let sum = |sign: usize, octave: usize| self.sum(space.codes_of(sign, octave));
        let mut left = left.checked_sub(self.wrapped().len() as u64 * WRAP)?;
        let is_non_finite =
            |&code: &u32| (code as usize >> space.mantissa_bits) % octaves == octaves - 1;
        let non_finite_count = sum(0, octaves - 1) + sum(1, octaves - 1);
        left = left.checked_sub(non_finite_count)?;
        let non_finite = non_finite_count > 0 || self.wrapped().iter().any(is_non_finite);
        let largest = layout.code(seen.min.abs().max(seen.max.abs())) >> space.mantissa_bits;
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
        (left == 0).then_some(Occupied { octaves: filled, non_finite })
    }
}

impl Histogram {
    /// Adds the finite values of the scratch counters to the pages, and clears the counters.
    pub(super) fn flush(
        &mut self,
        scratch: &mut Subhistograms,
        space: CodeSpace,
        occupied: &Occupied,
    ) {
        let CodeSpace { mantissa_bits, octaves, offset } = space;
        let layout = self.layout();
        let Some(pages) = &mut self.pages else { return };
        for same in scratch.take_wrapped().chunk_by(|a, b| a == b) {
            let (code, count) = (same[0] as usize, same.len() as u64 * WRAP);
            let (sign, octave) =
                ((code >> mantissa_bits) / octaves, (code >> mantissa_bits) % octaves);
            if octave == octaves - 1 {
                continue;
            }
            if octave == 0 && offset > 0 {
                pages.add(subnormal(layout, code, space), count);
            } else {
                let shift = (sign * (Layout::OCTAVES - octaves) + offset) << mantissa_bits;
                pages.add(code + shift, count);
            }
        }
        if occupied.non_finite {
            for sign in [0, 1] {
                scratch.take_range(space.codes_of(sign, octaves - 1), |_| ());
            }
        }
        pages.reserve(&occupied.octaves);
        for page in occupied.octaves.iter().map(|&page| usize::from(page)) {
            let octave = page % Layout::OCTAVES - offset;
            let range = space.codes_of(page / Layout::OCTAVES, octave);
            let first = range.start;
            scratch.take_range(range, |counts| {
                if octave == 0 && offset > 0 {
                    for counts in counts {
                        for (code, &count) in (first..).zip(*counts).filter(|&(_, &n)| n != 0) {
                            pages.add(subnormal(layout, code, space), u64::from(count));
                        }
                    }
                } else {
                    pages.add_octave(page, counts);
                }
            });
        }
    }
}

/// The layout's code of a float16 subnormal: that of number k is the code of k · 2^-24.
///
/// Float16 is the only type whose codes have an offset, so its smallest subnormal, 2^-24, is written
/// out. Another type with fewer than 256 octaves needs its own.
fn subnormal(layout: Layout, code: usize, space: CodeSpace) -> usize {
    let first_negative = space.octaves << space.mantissa_bits;
    let magnitude = (code % first_negative) as f32 * f32::from_bits((127 - 24) << 23);
    layout.code(if code < first_negative { magnitude } else { -magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::WIDEN_BLOCK;

    #[test]
    fn all_counted_values_are_found_whatever_the_scan_saw() {
        let values: Vec<f32> = (0..2000).map(|i| f32::from_bits((27 + i % 200) << 23)).collect();
        let layout = Layout::of(8);
        let space = CodeSpace::of::<f32>(layout);
        let mut scratch = Subhistograms::new();
        scratch.prepare(space);
        for block in values.chunks(WIDEN_BLOCK) {
            scratch.count(block, space, true, &mut Summary::new());
        }
        for (min, max) in [(-2.0, 1.0), (0.0, 0.0), (f32::MIN, f32::MAX), (1e-45, 1e-45)] {
            let seen = Summary { min, max, zeros: 0 };
            let occupied = scratch.occupied(space, layout, &seen, 2000).expect("all are there");
            assert_eq!(occupied.octaves.len(), 200, "from {min} to {max}");
            assert!(scratch.occupied(space, layout, &seen, 2001).is_none());
            assert!(scratch.occupied(space, layout, &seen, 1999).is_none());
        }
    }
}
