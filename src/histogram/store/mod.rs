//! The counters of a histogram, in one page for each octave that has values.
//!
//! Activations fill some 30 of the 512 octaves (two signs, 256 exponents). A flat table of `u64`
//! would take 1 MiB at 8 mantissa bits. The pages of N(0, 1) take 8 KiB, and a far outlier costs
//! one page.
//!
//! Counters have eight bits, so a page takes 256 bytes at 8 mantissa bits. Thousands of tensors
//! keep nearly all counts below 256. Fresh memory is expensive: touching a page of 4 KiB for the
//! first time takes 2.6 µs. That is a third of the time to count 16,384 values. A tensor of 1,024
//! values takes 7 KB; with 32-bit counters it took 34 KB. `overflow` holds what exceeds eight bits.
//!
//! Bins that come from a file are kept as a list where pages would take more memory. One bin of
//! three bytes may need a page of 4 KiB and another of 16 KiB. The list becomes pages before values
//! are recorded or merged.

mod directory;
mod overflow;

pub(crate) use overflow::Overflow;

use std::ops::BitOr;

use self::{directory::Directory, overflow::UNIT_BITS};
use crate::{float::Layout, simd};

/// Counters by code. An absent page counts nothing.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    layout: Layout,
    pub(crate) directory: Directory,
    pub(crate) low: Vec<u8>, // counts modulo 2^8, by page in the order of creation
    pub(crate) overflow: Overflow, // the upper part of the counts
    listed: Box<[Bin]>,      // bins by rising code; empty once there are pages
}

/// A code and its count.
type Bin = (u32, u64);

/// Pages that are reserved at a time, from the second page on. Doubling would leave much memory
/// unused.
const ROOM: usize = 4;

impl Pages {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            directory: Directory::default(),
            low: Vec::new(),
            overflow: Overflow::default(),
            listed: Box::default(),
        }
    }

    /// Counters of bins with rising codes and counts above 0. They take no more memory than the
    /// bins.
    pub(crate) fn of_bins(
        layout: Layout,
        bins: impl ExactSizeIterator<Item = (usize, u64)>,
    ) -> Self {
        let listed = bins.map(|(code, count)| (code as u32, count)).collect();
        let mut pages = Self { listed, ..Self::new(layout) };
        if pages.memory_as_pages() <= size_of_val(&*pages.listed) {
            pages.expand();
        }
        pages
    }

    /// Bytes that the listed bins would take on pages.
    fn memory_as_pages(&self) -> usize {
        let size = self.layout.bins_per_octave();
        let octave = |bin: &Bin| bin.0 >> self.layout.mantissa_bits();
        let pages = self.listed.chunk_by(|a, b| octave(a) == octave(b)).map(|bins| {
            let overflows = bins.iter().any(|bin| bin.1 >> UNIT_BITS > 0);
            size + if overflows { size_of::<Box<[u32]>>() + 4 * size } else { 0 }
        });
        let places = self.listed.iter().map(|bin| octave(bin) as usize);
        pages.sum::<usize>() + Directory::memory_of(places)
    }

    /// Moves listed bins to pages, so that more can be counted.
    #[inline]
    pub(crate) fn expand(&mut self) {
        if !self.listed.is_empty() {
            self.expand_list();
        }
    }

    #[cold]
    fn expand_list(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        self.make_pages(&self.octaves_of(&listed));
        for &(code, count) in &listed {
            self.add(code as usize, count);
        }
    }

    /// The octaves of some bins.
    fn octaves_of(&self, bins: &[Bin]) -> Vec<u16> {
        let mut octaves: Vec<u16> =
            bins.iter().map(|bin| (bin.0 >> self.layout.mantissa_bits()) as u16).collect();
        octaves.dedup();
        octaves
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The number of an octave's page, which is made if absent.
    #[inline]
    pub(crate) fn make(&mut self, octave: usize) -> usize {
        self.directory.find(octave).unwrap_or_else(|| self.make_new(octave))
    }

    #[cold]
    fn make_new(&mut self, octave: usize) -> usize {
        debug_assert!(self.listed.is_empty(), "bins are either listed or on pages");
        let size = self.layout.bins_per_octave();
        let page = self.low.len() / size;
        if self.low.capacity() == self.low.len() {
            self.low.reserve_exact(if page == 0 { size } else { ROOM * size });
        }
        self.low.resize(self.low.len() + size, 0);
        self.directory.set(octave, page);
        page
    }

    /// Counts one value.
    #[inline]
    pub(crate) fn increment(&mut self, code: usize) {
        let size = self.layout.bins_per_octave();
        let page = self.make(code >> self.layout.mantissa_bits());
        let at = code & (size - 1);
        let counter = &mut self.low[page * size + at];
        *counter = counter.wrapping_add(1);
        if *counter == 0 {
            self.overflow.add(page, size, at, 1);
        }
    }

    pub(crate) fn add(&mut self, code: usize, count: u64) {
        let page = self.make(code >> self.layout.mantissa_bits());
        self.add_at(page, code & (self.layout.bins_per_octave() - 1), count);
    }

    /// Reserves memory for the octaves that have no page yet.
    pub(crate) fn reserve(&mut self, octaves: &[u16]) {
        let octaves = || octaves.iter().map(|&octave| usize::from(octave));
        let new = octaves().filter(|&octave| self.directory.find(octave).is_none()).count();
        self.directory.cover(octaves());
        self.low.reserve_exact(new * self.layout.bins_per_octave());
    }

    /// Makes pages for the octaves that have none yet.
    pub(crate) fn make_pages(&mut self, octaves: &[u16]) {
        self.reserve(octaves);
        let size = self.layout.bins_per_octave();
        let mut page = self.low.len() / size;
        for octave in octaves.iter().map(|&octave| usize::from(octave)) {
            if self.directory.find(octave).is_none() {
                self.directory.set(octave, page);
                page += 1;
            }
        }
        self.low.resize(page * size, 0);
    }

    /// Adds the counts of one octave from some tables.
    ///
    /// Four tables are added up before the page is touched: 130,000 values with repeated codes took
    /// 54 µs one table at a time, and 51 µs like this.
    pub(crate) fn add_octave(&mut self, octave: usize, tables: &[&[u16]]) {
        let page = self.make(octave);
        let (fours, rest) = tables.as_chunks::<4>();
        for &tables in fours {
            self.add_all(page, tables);
        }
        for &table in rest {
            self.add_all(page, [table]);
        }
    }

    /// Adds the counts of some tables to a page.
    fn add_all<N: SmallCount, const TABLES: usize>(&mut self, page: usize, counts: [&[N]; TABLES]) {
        let size = self.layout.bins_per_octave();
        let low = &mut self.low[page * size..][..size];
        let add = AddCounts { low, counts, page, overflow: &mut self.overflow };
        if size < simd::FEW { simd::Work::run(add) } else { simd::dispatch(add) }
    }

    fn add_at(&mut self, page: usize, at: usize, count: u64) {
        let size = self.layout.bins_per_octave();
        let counter = &mut self.low[page * size + at];
        let sum = u64::from(*counter) + (count & u64::from(u8::MAX));
        *counter = sum as u8;
        let units = (sum >> UNIT_BITS) + (count >> UNIT_BITS);
        if units > 0 {
            self.overflow.add(page, size, at, units);
        }
    }

    /// The count at a place of a page.
    fn count(&self, page: usize, at: usize) -> u64 {
        let low = self.low[page * self.layout.bins_per_octave() + at];
        u64::from(low) | self.overflow.units(page, at) << UNIT_BITS
    }

    /// Non-empty bins as (code, count), by rising code: those of positive values first.
    pub(crate) fn non_empty(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let size = self.layout.bins_per_octave();
        let on_pages = self.directory.iter().flat_map(move |(octave, page)| {
            let counts = (0..size).map(move |at| (octave * size + at, self.count(page, at)));
            counts.filter(|&(_, n)| n > 0)
        });
        self.listed.iter().map(|&(code, count)| (code as usize, count)).chain(on_pages)
    }

    /// Adds counters of the same or of a finer layout. Dropping low mantissa bits is exact.
    pub(crate) fn merge(&mut self, other: &Self) {
        let drop = other.layout.mantissa_bits() - self.layout.mantissa_bits();
        let listed = !(self.listed.is_empty() && other.listed.is_empty());
        if listed && !self.has_pages_of(other, drop) {
            return self.merge_bins(other, drop);
        }
        for &(code, count) in &other.listed {
            self.add(code as usize >> drop, count);
        }
        let octaves: Vec<u16> = other.directory.iter().map(|(octave, _)| octave as u16).collect();
        self.reserve(&octaves);
        let size = other.layout.bins_per_octave();
        for (octave, source) in other.directory.iter() {
            let target = self.make(octave);
            if drop == 0
                && let Some(overflow) = other.overflow.whole_page(source)
            {
                self.add_all(target, [&other.low[source * size..][..size]]);
                if !overflow.is_empty() {
                    self.overflow.add_all(target, size, 0, overflow);
                }
                continue;
            }
            for at in 0..size {
                self.add_at(target, at >> drop, other.count(source, at));
            }
        }
    }

    /// Whether all octaves of the other's listed bins have pages here, and no bins are listed here.
    fn has_pages_of(&self, other: &Self, drop: u32) -> bool {
        let octave = |bin: &Bin| bin.0 as usize >> drop >> self.layout.mantissa_bits();
        self.listed.is_empty()
            && other.listed.iter().all(|bin| self.directory.find(octave(bin)).is_some())
    }

    /// Adds counters where either side has listed bins. The result is listed if that takes less
    /// memory.
    fn merge_bins(&mut self, other: &Self, drop: u32) {
        let theirs = other.non_empty().map(|(code, count)| (code >> drop, count));
        *self = Self::of_any(self.layout, self.non_empty().chain(theirs).collect());
    }

    /// Counters of bins in any order; several may have the same code.
    pub(crate) fn of_any(layout: Layout, mut bins: Vec<(usize, u64)>) -> Self {
        bins.sort_by_key(|&(code, _)| code); // a few rising runs, which one pass merges
        bins.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
        Self::of_bins(layout, bins.into_iter())
    }

    /// Whether the inner edge of each non-empty bin of `finer` is the inner edge of a bin here.
    pub(crate) fn holds_edges_of(&self, finer: &Self) -> bool {
        let drop = finer.layout.mantissa_bits() - self.layout.mantissa_bits();
        drop == 0 || finer.non_empty().all(|(code, _)| code.trailing_zeros() >= drop)
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.low.capacity()
            + self.directory.memory()
            + self.overflow.memory()
            + size_of_val(&*self.listed)
    }
}

/// Counts so small that a sum of a few fits 32 bits.
trait SmallCount: Copy + Default + PartialEq + BitOr<Output = Self> + Into<u32> {}
impl SmallCount for u8 {}
impl SmallCount for u16 {}

/// Adds the counts of some tables to the counters of a page, 32 at a time. Counters that gain
/// nothing are not touched.
struct AddCounts<'a, N, const TABLES: usize> {
    low: &'a mut [u8],
    counts: [&'a [N]; TABLES],
    page: usize,
    overflow: &'a mut Overflow,
}

impl<N: SmallCount, const TABLES: usize> simd::Work for AddCounts<'_, N, TABLES> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const LINE: usize = 32;
        let Self { low, counts, page, overflow } = self;
        let size = low.len();
        let lines = counts.map(|counts| counts.as_chunks::<LINE>().0);
        let (low_lines, low_rest) = low.as_chunks_mut::<LINE>();
        for (i, low) in low_lines.iter_mut().enumerate() {
            let lines = lines.map(|lines| &lines[i]);
            // Or-ed together, because comparing arrays compiles to a function call.
            let bits = |line: &[N; LINE]| line.iter().fold(N::default(), |bits, &n| bits | n);
            if lines.iter().fold(N::default(), |all, line| all | bits(line)) == N::default() {
                continue;
            }
            let mut units = [0; LINE];
            let mut any = 0;
            for (at, (low, units)) in low.iter_mut().zip(&mut units).enumerate() {
                let sum = lines.iter().fold(u32::from(*low), |sum, line| sum + line[at].into());
                *low = sum as u8;
                *units = sum >> UNIT_BITS;
                any |= *units;
            }
            if any > 0 {
                overflow.add_all(page, size, i * LINE, &units);
            }
        }
        // Pages of fewer than 32 counters.
        let first = size - low_rest.len();
        for (low, at) in low_rest.iter_mut().zip(first..) {
            let sum = counts.iter().fold(u32::from(*low), |sum, counts| sum + counts[at].into());
            *low = sum as u8;
            if sum >> UNIT_BITS > 0 {
                overflow.add(page, size, at, (sum >> UNIT_BITS).into());
            }
        }
    }
}

impl PartialEq for Pages {
    /// Equal counts. Empty pages make no difference.
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout && self.non_empty().eq(other.non_empty())
    }
}
