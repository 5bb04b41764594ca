//! Recording: from an array to the counters of a histogram.
//!
//! | file | what it records |
//! |---|---|
//! | `small` | up to some thousand elements, straight into the pages |
//! | `chunks` | larger arrays, by way of the scratch counters of each thread |
//! | `flush` | the scratch counters, into the pages |
//! | `interleaved` | many channels at once, without gathering their elements |

mod chunks;
mod flush;
mod interleaved;
mod small;

pub(crate) use interleaved::Interleaved;

use self::chunks::{CHUNK, Chunks, with_scratch};
use super::{
    Histogram,
    kernel::{NonFiniteCounts, Scan, Summary, drops_nothing, scan},
    store::Pages,
};
use crate::{
    float::{Element, Layout, WIDEN_BLOCK},
    parallel, simd,
};

/// Elements for each bin of an octave below which an array is small: 3072 at 8 mantissa bits.
/// Flushing the scratch counters would cost more than looking up the pages.
const SMALL: usize = 12;

/// Elements from which a second thread is used. Waking a sleeping processor may take longer than
/// counting fewer: 262,144 values took 0.10 ms on one thread and 0.16 to 0.18 ms on two.
const PARALLEL: usize = 1 << 20;

/// Fewest elements of a chunk that threads share: some 0.1 ms of counting, so that a thread that
/// wakes late still finds chunks to count.
const SHARE: usize = 1 << 18;

impl Histogram {
    /// The histogram of `values`, at the resolution of their type.
    pub fn of<T: Element>(values: &[T]) -> Self {
        let mut histogram = Self::new();
        histogram.record(values);
        histogram
    }

    /// Counts every element of `values`, on several threads if there are many elements.
    ///
    /// NaN and infinities have their own counters, and ±0 is counted in `zeros`. The result does
    /// not depend on the split or the order of the data, nor on the number of threads. Returns the
    /// finite minimum and maximum of this call, if there are any.
    pub fn record<T: Element>(&mut self, values: &[T]) -> Option<(f32, f32)> {
        simd::with_denormals(|| self.record_all(values))
    }

    fn record_all<T: Element>(&mut self, values: &[T]) -> Option<(f32, f32)> {
        let layout = self.coarsen_for::<T>();
        let mut seen = Summary::new();
        if values.len() < SMALL * layout.bins_per_octave() {
            let mut buffer = [0.0; WIDEN_BLOCK];
            for block in values.chunks(WIDEN_BLOCK) {
                seen.merge(&self.record_small(T::widen(block, &mut buffer)));
            }
            return seen.extremes();
        }
        let threads = parallel::threads(values.len() >= PARALLEL);
        let chunks = Chunks::of(self, layout);
        let size = if threads == 1 {
            CHUNK
        } else {
            values.len().div_ceil(threads * 4).clamp(SHARE, CHUNK)
        };
        parallel::for_each(threads > 1, values.chunks(size), |chunk| chunks.record(chunk));
        chunks.extremes()
    }

    /// An empty histogram of the same resolution, fixed or not.
    #[must_use]
    pub fn like(&self) -> Self {
        let pages = self.pages.as_ref().filter(|_| self.fixed);
        let pages = pages.map(|pages| Pages::new(pages.layout()));
        Self { fixed: self.fixed, pages, ..Self::new() }
    }

    /// Prepares for elements of type `T`: coarsens to their resolution unless it is fixed.
    pub(super) fn coarsen_for<T: Element>(&mut self) -> Layout {
        let native = Layout::native::<T>();
        if !self.fixed {
            self.coarsen_to(native);
        }
        let pages = self.pages.get_or_insert_with(|| Pages::new(native));
        pages.expand();
        pages.layout()
    }

    /// Counts a block of a small array.
    fn record_small(&mut self, block: &[f32]) -> Summary {
        let layout = self.layout();
        self.fetch_counters();
        let Scan { mut seen, finite, bits } = scan(block);
        let mut non_finite = NonFiniteCounts::default();
        let exact = if finite {
            layout.keeps(bits)
        } else {
            seen = Summary::new();
            non_finite.count(block, &mut seen);
            drops_nothing(block, layout)
        };
        self.exact = self.exact && exact;
        if finite {
            with_scratch(|scratch| self.count_small(block, &seen, &mut scratch.nonzero));
        } else if let Some(pages) = &mut self.pages {
            for &x in block.iter().filter(|&&x| x != 0.0 && x.is_finite()) {
                pages.increment(layout.code(x));
            }
        }
        self.include(&seen, &non_finite, block.len());
        seen
    }

    /// Adds the counters and extremes of `len` elements whose bins are counted.
    fn include(&mut self, seen: &Summary, non_finite: &NonFiniteCounts, len: usize) {
        self.count = self.count.saturating_add(len as u64);
        self.nan = self.nan.saturating_add(non_finite.nan);
        self.posinf = self.posinf.saturating_add(non_finite.posinf);
        self.neginf = self.neginf.saturating_add(non_finite.neginf);
        self.zeros = self.zeros.saturating_add(seen.zeros);
        // Adding +0 turns -0 into +0 and changes nothing else.
        self.min = self.min.min(seen.min) + 0.0;
        self.max = self.max.max(seen.max) + 0.0;
    }
}
