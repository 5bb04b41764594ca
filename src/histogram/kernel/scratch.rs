//! The counters of a thread: flat tables, so that the loop looks up no pages.

use std::ops::Range;

use super::code_space::CodeSpace;
use crate::simd::{self, Work};

/// Subhistograms that take turns when codes repeat.
///
/// An increment waits for the previous increment of the same counter. With four tables, four equal
/// codes in a row go to four counters: 0.55 → 0.41 ns a value on data that repeat. Data without
/// repetitions use one table (0.45 ns against 0.48 with four). Two tables are slower where codes
/// repeat; eight are slower everywhere.
pub(crate) const TABLES: usize = 4;

/// Unused counters between two tables, so that their distance is not a whole number of pages.
///
/// The store buffer compares the low 12 bits of addresses. At a distance of whole pages it takes
/// the four counters of one code for the same, and they wait for each other after all: runs of four
/// values took 0.87 instead of 0.49 ns.
const GAP: usize = 272;

/// What a counter loses when it wraps.
pub(crate) const WRAP: u64 = 1 << 16;

/// Chunks that are checked after one in which a counter wrapped.
///
/// Such data need the check in most chunks, since neighboring chunks are alike. With 16, one chunk
/// of 17 is counted twice, and the price of finding out whether the data changed stays at 6 %.
const CHECKED_CHUNKS: u32 = 16;

/// Counters by code, in up to four tables.
///
/// Counters have 16 bits, so that those of N(0, 1) at 8 mantissa bits take 13 KB and stay in the
/// first-level cache. A full counter wraps to zero; a checked count lists it in `wrapped`.
pub(crate) struct Subhistograms {
    pub(super) counters: Vec<u16>,     // all zero between uses
    pub(super) codes: usize,           // of one table
    pub(super) used: usize,            // tables in use
    pub(super) wrapped: Vec<u32>,      // codes of wrapped counters, once for each time
    pub(crate) nonzero: Vec<f32>,      // a block without its zeros
    pub(super) nonzero_bits: Vec<u16>, // the same for 16-bit floats
    pub(crate) octaves: Vec<u16>,      // a buffer for the octaves that have values
    checked: u32,                      // chunks that are still to be checked
}

impl Subhistograms {
    pub(crate) const fn new() -> Self {
        Self {
            counters: Vec::new(),
            codes: 0,
            used: 1,
            wrapped: Vec::new(),
            nonzero: Vec::new(),
            nonzero_bits: Vec::new(),
            octaves: Vec::new(),
            checked: 0,
        }
    }

    /// Makes room for the codes of `space`.
    pub(crate) fn prepare(&mut self, space: CodeSpace) {
        let size = TABLES * (space.codes() + GAP);
        if self.counters.len() < size {
            self.counters = vec![0; size];
        }
        (self.codes, self.used) = (space.codes(), 1);
    }

    /// Whether the next chunk is to be checked; counts it as checked.
    pub(crate) fn take_checked(&mut self) -> bool {
        let checked = self.checked > 0;
        self.checked = self.checked.saturating_sub(1);
        checked
    }

    /// Clears all counters, and lets the next chunks be checked.
    pub(crate) fn restart_checked(&mut self) {
        self.checked = CHECKED_CHUNKS;
        self.take_range(0..self.codes, |_| ());
        self.wrapped.clear();
        self.used = 1;
    }

    /// Notes whether all tables are in use.
    pub(super) fn use_tables(&mut self, all: bool) {
        if all {
            self.used = TABLES;
        }
    }

    /// Takes out the count of a code.
    pub(crate) fn take(&mut self, code: usize) -> u64 {
        let mut sum = 0;
        self.wrapped.retain(|&wrapped| {
            let other = wrapped as usize != code;
            sum += if other { 0 } else { WRAP };
            other
        });
        for table in 0..self.used {
            let counter = &mut self.counters[table * (self.codes + GAP) + code];
            sum += u64::from(std::mem::take(counter));
        }
        sum
    }

    /// The sum of the counters of some codes, without what wrapped.
    pub(crate) fn sum(&self, codes: Range<usize>) -> u64 {
        let tables = (0..self.used).map(|table| table * (self.codes + GAP));
        let counters = tables.map(|first| &self.counters[first + codes.start..first + codes.end]);
        let few = codes.len() < simd::FEW;
        let sum = |sum: CounterSum| if few { sum.run() } else { simd::dispatch(sum) };
        counters.map(|counters| u64::from(sum(CounterSum { counters }))).sum()
    }

    /// Hands the counters of some codes, of all tables in use, to `add`, and clears them.
    pub(crate) fn take_range(&mut self, codes: Range<usize>, add: impl FnOnce(&[&[u16]])) {
        let used = self.used;
        let (mut tables, _) = self.parts();
        let counters = tables.each_ref().map(|table| &table[codes.clone()]);
        add(&counters[..used]);
        for table in &mut tables[..used] {
            table[codes.clone()].fill(0);
        }
    }

    /// The codes whose counters wrapped, once for each time.
    pub(crate) fn wrapped(&self) -> &[u32] {
        &self.wrapped
    }

    /// Takes these codes out.
    pub(crate) fn take_wrapped(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.wrapped)
    }

    /// The tables, each with a known number of counters, and the list of wrapped codes.
    #[inline(always)]
    pub(super) fn split<const CODES: usize>(&mut self) -> ([&mut [u16]; TABLES], &mut Vec<u32>) {
        let (tables, wrapped) = self.parts();
        (tables.map(|table| &mut table[..CODES]), wrapped)
    }

    /// The tables and the list of wrapped codes.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> ([&mut [u16]; TABLES], &mut Vec<u32>) {
        let (size, mut rest) = (self.codes + GAP, &mut self.counters[..]);
        let tables = std::array::from_fn(|_| {
            let (table, others) = std::mem::take(&mut rest).split_at_mut(size);
            rest = others;
            table
        });
        (tables, &mut self.wrapped)
    }
}

/// The sum of some counters of a chunk, which has fewer than 2^32 elements.
struct CounterSum<'a> {
    counters: &'a [u16],
}

impl Work for CounterSum<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        self.counters.iter().fold(0, |sum, &n| sum.wrapping_add(n.into()))
    }
}
