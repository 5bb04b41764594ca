//! The counters of a histogram, one page an octave, pages made when first needed.
//!
//! Activations fill some 30 of the 512 octaves (two signs, 256 exponents). A flat table of `u64`
//! would hold 1 MiB at 8 mantissa bits; the pages of N(0, 1) hold 45 KiB, and an outlier far away
//! costs one page. A page is found through a directory of 512 small integers.
//!
//! Counters have 32 bits: half the memory, and half the cache that counting needs. What one cannot
//! hold is carried into a map, which nearly all histograms leave empty.

use std::collections::BTreeMap;

use crate::{float::Layout, simd};

/// Counters by code. Absent pages count nothing.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    layout: Layout,
    directory: Box<[u16; DIRECTORY]>, // 0 where there is no page, else its number, from 1
    counters: Vec<u32>,               // pages in the order in which they were made
    most: u32,                        // no counter holds more
    carried: BTreeMap<usize, u32>,    // by place in `counters`: further counts, in units of 2^32
}

const DIRECTORY: usize = 2 * Layout::OCTAVES;

/// Pages that are made room for at a time; doubling would leave much of it empty.
const ROOM: usize = 4;

impl Pages {
    pub(crate) fn new(layout: Layout) -> Self {
        let directory = Box::new([0; DIRECTORY]);
        Self { layout, directory, counters: Vec::new(), most: 0, carried: BTreeMap::new() }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Where the counters of one octave begin; makes the page.
    #[inline]
    fn make(&mut self, octave: usize) -> usize {
        let size = self.layout.bins_per_octave();
        if self.directory[octave] == 0 {
            if self.counters.capacity() == self.counters.len() {
                self.counters.reserve_exact(ROOM * size);
            }
            self.counters.resize(self.counters.len() + size, 0);
            self.directory[octave] = (self.counters.len() / size) as u16;
        }
        (self.directory[octave] as usize - 1) * size
    }

    /// Where the counters of one octave begin, if it has any.
    fn find(&self, octave: usize) -> Option<usize> {
        let number = self.directory[octave] as usize;
        (number > 0).then(|| (number - 1) * self.layout.bins_per_octave())
    }

    /// Counts one value.
    #[inline]
    pub(crate) fn increment(&mut self, code: usize) {
        let first = self.make(code >> self.layout.mantissa_bits());
        let at = first + (code & (self.layout.bins_per_octave() - 1));
        let (sum, full) = self.counters[at].overflowing_add(1);
        self.counters[at] = sum;
        self.most = self.most.max(sum);
        if full {
            self.carry(at, 1);
        }
    }

    pub(crate) fn add(&mut self, code: usize, count: u64) {
        let first = self.make(code >> self.layout.mantissa_bits());
        self.add_at(first + (code & (self.layout.bins_per_octave() - 1)), count);
    }

    /// Makes room for the octaves that have no page yet, at once.
    pub(crate) fn reserve(&mut self, octaves: &[u16]) {
        let new = octaves.iter().filter(|&&octave| self.directory[usize::from(octave)] == 0);
        let new = new.count();
        self.counters.reserve_exact(new * self.layout.bins_per_octave());
    }

    /// Adds small counts to one octave.
    pub(crate) fn add_octave(&mut self, octave: usize, counts: &[u16]) {
        let first = self.make(octave);
        self.add_all(first, counts, u16::MAX.into());
    }

    /// Adds counts, of which none exceeds `most`, from one place on.
    fn add_all<N>(&mut self, first: usize, counts: &[N], most: u32)
    where
        N: Copy + Default + PartialEq + Into<u32>,
    {
        if self.most.checked_add(most).is_none() {
            self.most = self.counters.iter().copied().max().unwrap_or(0);
        }
        match self.most.checked_add(most) {
            Some(most) => {
                self.most = most;
                let counters = &mut self.counters[first..first + counts.len()];
                if counts.len() >= simd::FEW {
                    simd::dispatch(Add { counters, counts });
                    return;
                }
                for (counter, &n) in counters.iter_mut().zip(counts) {
                    *counter += n.into();
                }
            }
            None => self.add_each(first, counts),
        }
    }

    /// Adds counts one by one, from one place on.
    fn add_each<N: Copy + Into<u32>>(&mut self, first: usize, counts: &[N]) {
        for (at, &n) in (first..).zip(counts) {
            self.add_at(at, n.into().into());
        }
    }

    fn add_at(&mut self, at: usize, count: u64) {
        let sum = u64::from(self.counters[at]) + (count & u64::from(u32::MAX));
        self.counters[at] = sum as u32;
        self.most = self.most.max(sum as u32);
        let carry = (sum >> 32) + (count >> 32);
        if carry > 0 {
            self.carry(at, carry);
        }
    }

    #[cold]
    fn carry(&mut self, at: usize, carry: u64) {
        let carried = self.carried.entry(at).or_default();
        *carried = carried.saturating_add(u32::try_from(carry).unwrap_or(u32::MAX));
    }

    /// The count at a place.
    fn count(&self, at: usize) -> u64 {
        let carried = if self.carried.is_empty() { None } else { self.carried.get(&at) };
        u64::from(self.counters[at]) | u64::from(carried.copied().unwrap_or(0)) << 32
    }

    /// Non-empty bins as (code, count), by rising code: positive ones first.
    pub(crate) fn non_empty(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let size = self.layout.bins_per_octave();
        (0..DIRECTORY).filter_map(|octave| Some((octave, self.find(octave)?))).flat_map(
            move |(octave, first)| {
                let counts = (0..size).map(move |i| (octave * size + i, self.count(first + i)));
                counts.filter(|&(_, n)| n > 0)
            },
        )
    }

    /// Adds counters of the same or of a finer layout; dropping low mantissa bits is exact.
    pub(crate) fn merge(&mut self, other: &Self) {
        let drop = other.layout.mantissa_bits() - self.layout.mantissa_bits();
        let octaves = (0..DIRECTORY as u16).filter(|&i| other.directory[usize::from(i)] > 0);
        let octaves: Vec<u16> = octaves.collect();
        self.reserve(&octaves);
        for octave in octaves.into_iter().map(usize::from) {
            let Some(source) = other.find(octave) else { continue };
            let target = self.make(octave);
            let from = &other.counters[source..][..other.layout.bins_per_octave()];
            if drop == 0 && other.carried.is_empty() {
                self.add_all(target, from, other.most);
                continue;
            }
            for i in 0..from.len() {
                self.add_at(target + (i >> drop), other.count(source + i));
            }
        }
    }

    /// Whether the inner edges of all bins that `finer` fills are inner edges here too.
    pub(crate) fn holds_edges_of(&self, finer: &Self) -> bool {
        let drop = finer.layout.mantissa_bits() - self.layout.mantissa_bits();
        drop == 0 || finer.non_empty().all(|(code, _)| code.trailing_zeros() >= drop)
    }

    /// Bytes on the heap.
    pub(crate) fn memory(&self) -> usize {
        self.counters.capacity() * size_of::<u32>()
            + size_of::<[u16; DIRECTORY]>()
            + self.carried.len() * size_of::<(usize, u32)>()
    }
}

/// Adding counts to the counters from one place on, those of a cache line at a time: lines that
/// gain nothing are not touched. No counter may overflow.
struct Add<'a, N> {
    counters: &'a mut [u32],
    counts: &'a [N],
}

impl<N: Copy + Default + PartialEq + Into<u32>> simd::Work for Add<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const LINE: usize = 16;
        let Self { counters, counts } = self;
        let (lines, rest) = counts.as_chunks::<LINE>();
        let (line_counters, rest_counters) = counters.as_chunks_mut::<LINE>();
        for (counters, counts) in line_counters.iter_mut().zip(lines) {
            if *counts != [N::default(); LINE] {
                for (counter, &n) in counters.iter_mut().zip(counts) {
                    *counter += n.into();
                }
            }
        }
        for (counter, &n) in rest_counters.iter_mut().zip(rest) {
            *counter += n.into();
        }
    }
}

impl PartialEq for Pages {
    /// Equal counts; which empty pages exist does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout && self.non_empty().eq(other.non_empty())
    }
}
