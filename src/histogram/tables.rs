//! The scratch tables of a thread: flat, so that counting looks no pages up.
//!
//! Counters have 16 bits, or eight where there are so many that they would not fit into the first-level
//! cache; there are four tables, of which most data need one.

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

    /// Whether counters of eight bits pay: 1024 an octave, of 16 bits, fill most of the cache, and values
    /// spread over so many that few are full before they are emptied.
    pub(super) fn is_wide(self) -> bool {
        self.mantissa_bits >= 10
    }

    /// Whether the codes are the values' own bits.
    pub(super) fn is_bits<T: Element>(self) -> bool {
        self.mantissa_bits == T::ALL_MANTISSA_BITS && self.octaves == T::OCTAVES
    }
}

/// A counter that begins again when it is full.
pub(super) trait Counter: Copy + Default + PartialEq + Into<u32> + 'static {
    /// What it leaves out when it is full.
    const FULL: u64;

    /// Adds a number, at most 2^7; tells whether it was full.
    fn add(&mut self, n: u8) -> bool;
}

impl Counter for u8 {
    const FULL: u64 = 1 << 8;

    #[inline(always)]
    fn add(&mut self, n: u8) -> bool {
        let (sum, full) = self.overflowing_add(n);
        *self = sum;
        full
    }
}

impl Counter for u16 {
    const FULL: u64 = 1 << 16;

    #[inline(always)]
    fn add(&mut self, n: u8) -> bool {
        let (sum, full) = self.overflowing_add(n.into());
        *self = sum;
        full
    }
}

/// Counters by code. One that is full is noted, and begins again.
pub(super) struct Tables<C> {
    pub(super) counters: Vec<C>, // all zero between uses
    pub(super) codes: usize,     // of one table
    pub(super) ways: usize,      // tables in use
    pub(super) full: Vec<u32>,   // codes, once for each time that their counters were full
}

impl<C> Tables<C> {
    pub(super) const fn new() -> Self {
        Self { counters: Vec::new(), codes: 0, ways: 1, full: Vec::new() }
    }
}

impl<C: Counter> Tables<C> {
    /// Makes room for a scheme.
    pub(super) fn prepare(&mut self, scheme: Scheme) {
        let size = WAYS * (scheme.codes() + GAP);
        if self.counters.len() < size {
            self.counters = vec![C::default(); size];
        }
        (self.codes, self.ways) = (scheme.codes(), 1);
    }

    /// Takes out the count of a code.
    pub(super) fn take(&mut self, code: usize) -> u64 {
        let mut sum = 0;
        self.full.retain(|&full| {
            let other = full as usize != code;
            sum += if other { 0 } else { C::FULL };
            other
        });
        for way in 0..self.ways {
            let counter = &mut self.counters[way * (self.codes + GAP) + code];
            sum += u64::from(std::mem::take(counter).into());
        }
        sum
    }

    /// The sum of the counters of some codes, without what [`take_full`](Self::take_full) tells.
    pub(super) fn sum(&self, codes: Range<usize>) -> u64 {
        let tables = (0..self.ways).map(|way| way * (self.codes + GAP));
        let counters = tables.map(|first| &self.counters[first + codes.start..first + codes.end]);
        let few = codes.len() < simd::FEW;
        let sum = |sum: Sum<C>| if few { sum.run() } else { simd::dispatch(sum) };
        counters.map(|counters| u64::from(sum(Sum { counters }))).sum()
    }

    /// Clears the counters of some codes, after each table's were handed to `add`.
    pub(super) fn take_range(&mut self, codes: Range<usize>, mut add: impl FnMut(&[C])) {
        for first in (0..self.ways).map(|way| way * (self.codes + GAP)) {
            let counters = &mut self.counters[first + codes.start..first + codes.end];
            add(counters);
            counters.fill(C::default());
        }
    }

    /// Takes out the codes whose counters were full, once for each time.
    pub(super) fn take_full(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.full)
    }

    /// The tables as such, each with a known number of counters, and where full ones are noted.
    #[inline(always)]
    pub(super) fn split<const CODES: usize>(&mut self) -> ([&mut [C]; WAYS], &mut Vec<u32>) {
        let (ways, full) = self.parts();
        (ways.map(|way| &mut way[..CODES]), full)
    }

    /// The tables as such.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> ([&mut [C]; WAYS], &mut Vec<u32>) {
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
struct Sum<'a, C> {
    counters: &'a [C],
}

impl<C: Counter> simd::Work for Sum<'_, C> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        self.counters.iter().fold(0, |sum, &n| sum.wrapping_add(n.into()))
    }
}
