//! From an octave to its page: a table from the smallest to the largest magnitude.
//!
//! Activations fill some 30 neighboring octaves of the 512 (two signs, 256 exponents). A table of
//! all octaves would at first take as much memory as the counters.

use crate::{float::Layout, simd};

/// Numbers of pages by octave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    first: usize,      // place of the first entry
    numbers: Vec<u16>, // 0 for no page, otherwise the number of the page + 1
}

/// Places that are added at a time: both signs of eight octaves.
const STEP: usize = 16;

/// The place of an octave: by rising magnitude, both signs side by side.
#[inline(always)]
fn place(octave: usize) -> usize {
    2 * (octave % Layout::OCTAVES) + octave / Layout::OCTAVES
}

impl Directory {
    /// The page of an octave, if it has one.
    #[inline(always)]
    pub(crate) fn find(&self, octave: usize) -> Option<usize> {
        let number = *self.numbers.get(place(octave).wrapping_sub(self.first))?;
        usize::from(number).checked_sub(1)
    }

    /// Gives an octave its page.
    pub(crate) fn set(&mut self, octave: usize, page: usize) {
        self.cover([octave]);
        self.numbers[place(octave) - self.first] = page as u16 + 1;
    }

    /// Extends the table to cover some octaves.
    pub(crate) fn cover(&mut self, octaves: impl IntoIterator<Item = usize>) {
        let (mut start, mut end) = (self.first, self.first + self.numbers.len());
        for place in octaves.into_iter().map(place) {
            let from = if start == end { place } else { start };
            (start, end) = (from.min(place), end.max(place + 1));
        }
        let (start, end) = (start - start % STEP, end.next_multiple_of(STEP));
        if end - start > self.numbers.len() {
            let mut numbers = vec![0; end - start];
            let known = self.first.saturating_sub(start);
            numbers[known..known + self.numbers.len()].copy_from_slice(&self.numbers);
            (self.first, self.numbers) = (start, numbers);
        }
    }

    /// Prefetches the table.
    pub(crate) fn fetch(&self) {
        simd::fetch(&self.numbers);
    }

    /// Writes where the page of each octave begins. Pages have 2^`mantissa_bits` counters.
    pub(crate) fn lay_out(&self, mantissa_bits: u32, starts: &mut [u32; 2 * Layout::OCTAVES]) {
        for (place, &number) in (self.first..).zip(&self.numbers) {
            if number > 0 {
                let octave = place / 2 + place % 2 * Layout::OCTAVES;
                starts[octave] = (u32::from(number) - 1) << mantissa_bits;
            }
        }
    }

    /// Octaves and their pages, by rising code.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let covered = self.first / 2..self.first / 2 + self.numbers.len() / 2; // both even
        let octaves = covered.clone().chain(covered.map(|octave| octave + Layout::OCTAVES));
        octaves.filter_map(|octave| Some((octave, self.find(octave)?)))
    }

    /// Bytes on the heap that a table of these octaves would take, at least.
    pub(crate) fn memory_of(octaves: impl Iterator<Item = usize> + Clone) -> usize {
        let (first, last) = (octaves.clone().map(place).min(), octaves.map(place).max());
        first.zip(last).map_or(0, |(first, last)| (last - first + 1) * size_of::<u16>())
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.numbers.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octaves_are_found_in_whatever_order_their_pages_were_made() {
        for step in [1, 7, 101, 255, 509] {
            let mut directory = Directory::default();
            directory.cover([300, 40]);
            let order: Vec<usize> = (0..512).map(|i| (200 + i * step) % 512).collect();
            for (page, &octave) in order.iter().enumerate() {
                assert_eq!(directory.find(octave), None, "octave {octave}");
                directory.set(octave, page);
                assert_eq!(directory.find(octave), Some(page));
            }
            let found: Vec<(usize, usize)> = directory.iter().collect();
            let mut expected: Vec<(usize, usize)> =
                order.iter().enumerate().map(|(page, &octave)| (octave, page)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_table_covers_no_more_than_its_octaves_need() {
        let mut directory = Directory::default();
        for octave in [120, 127, 256 + 127, 256 + 120] {
            directory.set(octave, 0);
        }
        assert!(directory.memory() <= 2 * STEP * size_of::<u16>());
    }
}
