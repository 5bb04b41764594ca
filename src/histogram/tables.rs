//! The scratch tables of a thread: flat, so that counting looks no pages up.
//!
//! Counters have 16 bits; there are four tables, of which most data need one.

use std::ops::Range;

use crate::{
    float::{Element, Layout},
    simd::{self, Work},
};

/// Tables that take turns when codes repeat.
pub(super) const WAYS: usize = 4;

/// Counters between two tables: at a distance of whole pages the counters of one code would be taken
/// for the same by the processor's store buffer, and wait for each other all the same.
const GAP: usize = 272;

/// What the codes of a type are: the layout's, or, for 16-bit types at their own resolution,
/// simply their bits.
#[derive(Clone, Copy)]
pub(super) struct Scheme {
    /// bins of an octave, as a power of two
    pub(super) mantissa_bits: u32,
    /// octaves of one sign, that of the non-finite values included
    pub(super) octaves: usize,
    /// the layout's number of the lowest octave
    pub(super) offset: usize,
}

impl Scheme {
    pub(super) fn of<T: Element>(layout: Layout) -> Self {
        let mantissa_bits = layout.mantissa_bits();
        let own = T::bits(&[]).is_some() && mantissa_bits == T::ALL_MANTISSA_BITS;
        if own && T::OCTAVES < Layout::OCTAVES {
            // The lowest octave of a smaller type holds its subnormals, which lie lower down.
            let offset = (Layout::OCTAVES - T::OCTAVES) / 2;
            return Self { mantissa_bits, octaves: T::OCTAVES, offset };
        }
        Self { mantissa_bits, octaves: Layout::OCTAVES, offset: 0 }
    }

    /// Codes of both signs.
    pub(super) fn codes(self) -> usize {
        (2 * self.octaves) << self.mantissa_bits
    }

    /// Whether the codes are the values' own bits.
    pub(super) fn is_bits<T: Element>(self) -> bool {
        self.mantissa_bits == T::ALL_MANTISSA_BITS && self.octaves == T::OCTAVES
    }
}

/// What a counter leaves out when it is full and begins again.
pub(super) const FULL: u64 = 1 << 16;

/// Counters by code. One that is full begins again; with care it is noted.
pub(super) struct Tables {
    pub(super) counters: Vec<u16>,  // all zero between uses
    pub(super) codes: usize,        // of one table
    pub(super) ways: usize,         // tables in use
    pub(super) full: Vec<u32>,      // codes, once for each time that their counters were full
    pub(super) rest: Vec<f32>,      // values of a block that are not zero
    pub(super) rest_bits: Vec<u16>, // the same of 16-bit floats
    pub(super) octaves: Vec<u16>,   // for those that have values
    careful: u32,                   // pieces that are yet to be counted with care
}

/// Pieces that are counted with care after one in which counters were full.
const WARY: u32 = 16;

impl Tables {
    pub(super) const fn new() -> Self {
        Self {
            counters: Vec::new(),
            codes: 0,
            ways: 1,
            full: Vec::new(),
            rest: Vec::new(),
            rest_bits: Vec::new(),
            octaves: Vec::new(),
            careful: 0,
        }
    }
}

impl Tables {
    /// Makes room for a scheme.
    pub(super) fn prepare(&mut self, scheme: Scheme) {
        let size = WAYS * (scheme.codes() + GAP);
        if self.counters.len() < size {
            self.counters = vec![0; size];
        }
        (self.codes, self.ways) = (scheme.codes(), 1);
    }

    /// Whether the next piece is to be counted with care: with a look at each counter, whether it was
    /// full.
    pub(super) fn take_care(&mut self) -> bool {
        let careful = self.careful > 0;
        self.careful = self.careful.saturating_sub(1);
        careful
    }

    /// Clears all counters: the piece is to be counted once more with care, and so are the next, as
    /// they are likely to be alike.
    pub(super) fn begin_again(&mut self) {
        self.careful = WARY;
        self.take_range(0..self.codes, |_| ());
        self.full.clear();
        self.ways = 1;
    }

    /// Notes that all tables are in use, if they are.
    pub(super) fn use_ways(&mut self, all: bool) {
        if all {
            self.ways = WAYS;
        }
    }

    /// Takes out the count of a code.
    pub(super) fn take(&mut self, code: usize) -> u64 {
        let mut sum = 0;
        self.full.retain(|&full| {
            let other = full as usize != code;
            sum += if other { 0 } else { FULL };
            other
        });
        for way in 0..self.ways {
            let counter = &mut self.counters[way * (self.codes + GAP) + code];
            sum += u64::from(std::mem::take(counter));
        }
        sum
    }

    /// The sum of the counters of some codes, without what [`take_full`](Self::take_full) tells.
    pub(super) fn sum(&self, codes: Range<usize>) -> u64 {
        let tables = (0..self.ways).map(|way| way * (self.codes + GAP));
        let counters = tables.map(|first| &self.counters[first + codes.start..first + codes.end]);
        let few = codes.len() < simd::FEW;
        let sum = |sum: Sum| if few { sum.run() } else { simd::dispatch(sum) };
        counters.map(|counters| u64::from(sum(Sum { counters }))).sum()
    }

    /// Clears the counters of some codes, after those of all tables in use were handed to `add`.
    pub(super) fn take_range(&mut self, codes: Range<usize>, add: impl FnOnce(&[&[u16]])) {
        let used = self.ways;
        let (mut ways, _) = self.parts();
        let tables = ways.each_ref().map(|way| &way[codes.clone()]);
        add(&tables[..used]);
        for way in &mut ways[..used] {
            way[codes.clone()].fill(0);
        }
    }

    /// Takes out the codes whose counters were full, once for each time.
    pub(super) fn take_full(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.full)
    }

    /// The tables as such, each with a known number of counters, and where full ones are noted.
    #[inline(always)]
    pub(super) fn split<const CODES: usize>(&mut self) -> ([&mut [u16]; WAYS], &mut Vec<u32>) {
        let (ways, full) = self.parts();
        (ways.map(|way| &mut way[..CODES]), full)
    }

    /// The tables as such.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> ([&mut [u16]; WAYS], &mut Vec<u32>) {
        let (size, mut rest) = (self.codes + GAP, &mut self.counters[..]);
        let ways = std::array::from_fn(|_| {
            let (way, others) = std::mem::take(&mut rest).split_at_mut(size);
            rest = others;
            way
        });
        (ways, &mut self.full)
    }
}

/// The sum of some counters, of a piece of fewer than 2^32 elements.
struct Sum<'a> {
    counters: &'a [u16],
}

impl simd::Work for Sum<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        self.counters.iter().fold(0, |sum, &n| sum.wrapping_add(n.into()))
    }
}
