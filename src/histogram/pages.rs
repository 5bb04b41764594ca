//! The counters of a histogram, one page an octave, pages made when first needed.
//!
//! Activations fill some 30 of the 512 octaves (two signs, 256 exponents). A flat table of `u64`
//! would hold 1 MiB at 8 mantissa bits; the pages of N(0, 1) hold 90 KiB, and an outlier far away
//! costs one page. A page is found through a directory of 512 small integers.

use crate::float::Layout;

/// Counters by code. Absent pages count nothing.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    layout: Layout,
    directory: Box<[u16; DIRECTORY]>, // 0 where there is no page, else its number, from 1
    counters: Vec<u64>,               // pages in the order in which they were made
}

const DIRECTORY: usize = 2 * Layout::OCTAVES;

impl Pages {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, directory: Box::new([0; DIRECTORY]), counters: Vec::new() }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The counters of one octave; makes the page.
    #[inline]
    pub(crate) fn page_mut(&mut self, octave: usize) -> &mut [u64] {
        let size = self.layout.bins_per_octave();
        if self.directory[octave] == 0 {
            self.counters.resize(self.counters.len() + size, 0);
            self.directory[octave] = (self.counters.len() / size) as u16;
        }
        let end = self.directory[octave] as usize * size;
        &mut self.counters[end - size..end]
    }

    /// The counters of one octave, if it has any.
    pub(crate) fn page(&self, octave: usize) -> Option<&[u64]> {
        let size = self.layout.bins_per_octave();
        let end = self.directory[octave] as usize * size;
        (end > 0).then(|| &self.counters[end - size..end])
    }

    #[inline]
    pub(crate) fn add(&mut self, code: usize, count: u64) {
        let octave = code >> self.layout.mantissa_bits();
        let bin = code & (self.layout.bins_per_octave() - 1);
        let counter = &mut self.page_mut(octave)[bin];
        *counter = counter.saturating_add(count);
    }

    /// Non-empty bins as (code, count), by rising code: positive ones first.
    pub(crate) fn non_empty(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (0..DIRECTORY).flat_map(move |octave| {
            let first = octave << self.layout.mantissa_bits();
            let page = self.page(octave).unwrap_or_default().iter().enumerate();
            page.filter(|&(_, &n)| n > 0).map(move |(i, &n)| (first + i, n))
        })
    }

    /// Adds counters of the same or of a finer layout; dropping low mantissa bits is exact.
    pub(crate) fn merge(&mut self, other: &Self) {
        let drop = other.layout.mantissa_bits() - self.layout.mantissa_bits();
        for octave in 0..DIRECTORY {
            let Some(source) = other.page(octave) else { continue };
            let target = self.page_mut(octave);
            for (i, &count) in source.iter().enumerate() {
                let counter = &mut target[i >> drop];
                *counter = counter.saturating_add(count);
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
        self.counters.capacity() * size_of::<u64>() + size_of::<[u16; DIRECTORY]>()
    }
}

impl PartialEq for Pages {
    /// Equal counts; which empty pages exist does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout && self.non_empty().eq(other.non_empty())
    }
}
