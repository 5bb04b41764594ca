//! From a number to the segment of its bin, in two look-ups.
//!
//! The table goes by octave, so that only octaves with bins take memory, not all codes between the
//! extremes.

use crate::float::Layout;

/// For each code of a magnitude and each sign, the number of segments before its bin.
#[derive(Debug, Clone)]
pub(super) struct Index {
    layout: Layout,
    blocks: Vec<u32>, // where the block of each octave begins; positive octaves first
    at: Vec<u32>,     // blocks of 2^m entries; neighboring octaves of equal entries share one
    zero: u32,        // segments of negative values
}

impl Index {
    /// Takes the rising magnitude codes of the non-empty bins of either sign.
    pub(crate) fn new(layout: Layout, negative: &[u32], positive: &[u32], zeros: bool) -> Self {
        let zero = negative.len() as u32;
        let room = 2 * Layout::OCTAVES;
        let mut index = Self { layout, blocks: Vec::with_capacity(room), at: Vec::new(), zero };
        // A positive bin has the smaller ones before it, so the codes above it have one more.
        let first = zero + u32::from(zeros);
        index.add_side(positive.iter().map(|&code| code + 1).zip(first + 1..), first);
        // A negative bin has those of larger magnitude before it, but not itself.
        index.add_side(negative.iter().copied().zip((0..zero).rev()), zero);
        index
    }

    /// Adds the entries of one sign: `start` up to the first step, then the value of each step from
    /// its code on.
    fn add_side(&mut self, steps: impl Iterator<Item = (u32, u32)>, start: u32) {
        let bits = self.layout.mantissa_bits();
        let size = self.layout.bins_per_octave();
        let mut steps = steps.peekable();
        let mut entry = start;
        let mut shared: Option<u32> = None; // the last block, if all its entries are `entry`
        for octave in 0..Layout::OCTAVES as u32 {
            let inside = |&(code, _): &(u32, u32)| code >> bits <= octave;
            if let (Some(block), false) = (shared, steps.peek().is_some_and(inside)) {
                self.blocks.push(block);
                continue;
            }
            let block = self.at.len();
            shared = Some(block as u32);
            while let Some((code, next)) = steps.next_if(inside) {
                self.at.resize(block + (code as usize & (size - 1)), entry);
                entry = next;
                shared = None;
            }
            self.at.resize(block + size, entry);
            self.blocks.push(block as u32);
        }
    }

    /// The first segment that is not entirely below `x`.
    #[inline(always)]
    pub(crate) fn locate(&self, x: f64) -> usize {
        let magnitude = x.abs();
        if magnitude.is_nan() || magnitude <= 0.0 {
            return self.zero as usize;
        }
        self.side(x < 0.0).locate(magnitude)
    }

    /// The index of one sign.
    #[inline(always)]
    pub(super) fn side(&self, negative: bool) -> Side<'_> {
        let start = if negative { Layout::OCTAVES } else { 0 };
        let blocks = &self.blocks[start..start + Layout::OCTAVES];
        Side { layout: self.layout, blocks, at: &self.at }
    }
}

/// The index of one sign, for loops over many numbers of this sign.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    layout: Layout,
    blocks: &'a [u32],
    at: &'a [u32],
}

impl Side<'_> {
    /// The first segment that is not entirely below the number of this magnitude, which is above 0.
    #[inline(always)]
    pub(crate) fn locate(&self, magnitude: f64) -> usize {
        let (bits, code) = (self.layout.mantissa_bits(), self.layout.magnitude_of(magnitude));
        let inside = code & (self.layout.bins_per_octave() - 1);
        self.at[self.blocks[code >> bits] as usize + inside] as usize
    }
}
