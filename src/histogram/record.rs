//! Recording: the one loop over the data.
//!
//! Arrays of some thousand elements are counted straight into the pages (`few.rs`), larger ones by
//! way of scratch tables (`pieces.rs`).

use super::{
    Histogram, Pages,
    count::drops_nothing,
    extremes::{Glance, NonFinite, Summary, glance},
    pieces::{PIECE, Pieces, with_scratch},
};
use crate::{
    float::{BLOCK, Element, Layout},
    parallel, simd,
};

/// Below this many elements for each bin of an octave, emptying the scratch table would cost more
/// than looking up pages: 3072 elements at 8 mantissa bits.
const SMALL: usize = 12;

/// Below this, a second thread is not worth waking, which may take longer than the counting.
const PARALLEL: usize = 1 << 20;

/// Elements that a thread takes at least: as many as it counts in a tenth of a millisecond, so that one
/// that wakes late finds some left.
const SHARE: usize = 1 << 18;

impl Histogram {
    /// Counts every element of `values`, with rayon's threads when there are many.
    ///
    /// NaN and infinities are counted apart, and ±0 in `zeros`. The result does not depend on how
    /// the data are split or ordered, nor on the number of threads. Returns the smallest and the
    /// largest finite value of this call, if there is one.
    pub fn record<T: Element>(&mut self, values: &[T]) -> Option<(f32, f32)> {
        simd::with_subnormals(|| self.record_all(values))
    }

    fn record_all<T: Element>(&mut self, values: &[T]) -> Option<(f32, f32)> {
        let layout = self.settle::<T>();
        let mut seen = Summary::new();
        if values.len() < SMALL * layout.bins_per_octave() {
            let mut buffer = [0.0; BLOCK];
            for block in values.chunks(BLOCK) {
                seen.join(&self.record_small(T::widen(block, &mut buffer)));
            }
            return seen.extremes();
        }
        let threads = parallel::threads(values.len() >= PARALLEL);
        let pieces = Pieces::of(self, layout);
        let size = if threads == 1 {
            PIECE
        } else {
            values.len().div_ceil(threads * 4).clamp(SHARE, PIECE)
        };
        parallel::for_each(threads > 1, values.chunks(size), |piece| pieces.record(piece));
        pieces.extremes()
    }

    /// A histogram of the same kind with nothing in it.
    #[must_use]
    pub fn like(&self) -> Self {
        let pages = self.pages.as_ref().filter(|_| self.fixed);
        let pages = pages.map(|pages| Pages::new(pages.layout()));
        Self { fixed: self.fixed, pages, ..Self::new() }
    }

    /// Fixes the resolution for elements of type `T`: coarsens, if it follows the types.
    pub(super) fn settle<T: Element>(&mut self) -> Layout {
        let native = Layout::of(T::MANTISSA_BITS);
        if !self.fixed {
            self.coarsen_to(native);
        }
        let pages = self.pages.get_or_insert_with(|| Pages::new(native));
        pages.spread();
        pages.layout()
    }

    /// Counts a few elements straight into the pages.
    fn record_small(&mut self, block: &[f32]) -> Summary {
        let layout = self.layout();
        self.fetch_counters();
        let Glance { mut seen, finite, bits } = glance(block);
        let mut non_finite = NonFinite::default();
        let exact = if finite {
            layout.keeps(bits)
        } else {
            seen = Summary::new();
            non_finite.count(block, &mut seen);
            drops_nothing(block, layout)
        };
        self.exact = self.exact && exact;
        if finite {
            with_scratch(|tables| self.count_few(block, &seen, &mut tables.rest));
        } else if let Some(pages) = &mut self.pages {
            for &x in block.iter().filter(|&&x| x != 0.0 && x.is_finite()) {
                pages.increment(layout.code(x));
            }
        }
        self.include(&seen, &non_finite, block.len());
        seen
    }

    pub(super) fn include(&mut self, seen: &Summary, non_finite: &NonFinite, len: usize) {
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
