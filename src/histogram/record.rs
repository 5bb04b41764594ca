//! Recording: the one loop over the data.
//!
//! A piece of at most 2^20 elements is counted (`count.rs`) in scratch tables of the thread, flat,
//! so that the loop needs no look-up of pages; they are then emptied into the histogram's pages
//! (`empty.rs`).
//!
//! Looking at each counter, whether it was full, takes a sixth of the time. So the sum of all tells,
//! when a table is emptied; a piece of which some are missing is counted once more, with care, and so
//! are the next.
//!
//! Non-finite values need no care in the hot loop: they have codes too. They are noticed when the
//! table is emptied, and then the piece is read once more, slowly.
//!
//! Arrays of some thousand elements are counted straight into the pages (`few.rs`).

use std::{
    cell::RefCell,
    sync::{Mutex, PoisonError},
};

use super::{
    Histogram, Pages,
    count::drops_nothing,
    extremes::{Glance, Summary, glance},
    tables::{Scheme, Tables},
};
use crate::{
    float::{BLOCK, Element, Layout},
    parallel, simd,
};

/// Elements counted between two emptyings of the scratch tables: enough that emptying costs about
/// one percent.
const PIECE: usize = 1 << 20;

/// Below this many elements for each bin of an octave, emptying the scratch table would cost more
/// than looking up pages: 3072 elements at 8 mantissa bits.
const SMALL: usize = 12;

/// Below this, a second thread is not worth waking, which may take longer than the counting.
const PARALLEL: usize = 1 << 20;

/// Elements that a thread takes at least: as many as it counts in a tenth of a millisecond, so that one
/// that wakes late finds some left.
const SHARE: usize = 1 << 18;

/// Elements that are looked at for repetitions and counted as one block.
const COUNTED: usize = 16 * BLOCK;

thread_local! {
    /// All zero between uses.
    static SCRATCH: RefCell<Tables> = const { RefCell::new(Tables::new()) };
}

/// What is known of a piece that was counted in the scratch tables.
struct Counted {
    seen: Summary,
    binned: u64, // elements of which the tables hold the counts, if no counter was full
    tiny: u64,   // values that share their bin with zero
}

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
        if threads > 1 {
            let part = Self::of_pieces(values, layout, threads);
            self.merge(&part);
            return part.min().zip(part.max());
        }
        for piece in values.chunks(PIECE) {
            seen.join(&self.record_piece(piece));
        }
        seen.extremes()
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
        self.pages.get_or_insert_with(|| Pages::new(native)).layout()
    }

    fn nothing(layout: Layout) -> Self {
        Self { pages: Some(Pages::new(layout)), ..Self::new() }
    }

    /// Counts values on several threads.
    fn of_pieces<T: Element>(values: &[T], layout: Layout, threads: usize) -> Self {
        let piece = values.len().div_ceil(threads * 4).clamp(SHARE, PIECE);
        let pieces = Mutex::new(values.chunks(piece));
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        let parts = parallel::on_each(threads, || {
            let mut part = Self::nothing(layout);
            while let Some(piece) = next() {
                part.record_piece(piece);
            }
            part
        });
        let merged = parts.into_iter().reduce(|mut a, b| {
            a.merge(&b);
            a
        });
        merged.unwrap_or_else(|| Self::nothing(layout))
    }

    /// Counts one piece by way of the scratch tables.
    fn record_piece<T: Element>(&mut self, piece: &[T]) -> Summary {
        let scheme = Scheme::of::<T>(self.layout());
        SCRATCH.with_borrow_mut(|tables| self.record_with(piece, scheme, tables))
    }

    fn record_with<T: Element>(
        &mut self,
        piece: &[T],
        scheme: Scheme,
        tables: &mut Tables,
    ) -> Summary {
        let layout = self.layout();
        tables.prepare(scheme);
        let careful = tables.take_care();
        let mut counted = self.count_piece(piece, scheme, careful, tables);
        let mut found = tables.find(scheme, layout, &counted.seen, counted.binned);
        if found.is_none() {
            // A counter was full.
            tables.begin_again();
            counted = self.count_piece(piece, scheme, true, tables);
            found = tables.find(scheme, layout, &counted.seen, counted.binned);
        }
        debug_assert!(found.is_some(), "every element has a code");
        let Counted { mut seen, tiny, .. } = counted;
        let mut buffer = [0.0; BLOCK];
        let mut left = tiny;
        for block in piece.chunks(BLOCK) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(self.count_tiny(T::widen(block, &mut buffer)));
        }
        if let Some(found) = found {
            self.empty(tables, scheme, &found);
            if found.non_finite {
                let zeros = seen.zeros;
                seen = Summary::new();
                for block in piece.chunks(BLOCK) {
                    self.recount_non_finite(T::widen(block, &mut buffer), &mut seen);
                }
                debug_assert_eq!(seen.zeros, zeros, "they are finite");
            }
        }
        self.include(&seen, piece.len());
        seen
    }

    /// Counts a piece in the scratch tables, and takes out what they count of zeros.
    fn count_piece<T: Element>(
        &mut self,
        piece: &[T],
        scheme: Scheme,
        careful: bool,
        tables: &mut Tables,
    ) -> Counted {
        let layout = self.layout();
        let (mut seen, mut zeros) = (Summary::new(), 0);
        for block in piece.chunks(COUNTED) {
            zeros += tables.count(block, scheme, careful, &mut seen);
            self.exact = self.exact && drops_nothing(block, layout);
        }
        zeros += tables.take(0) + tables.take(scheme.octaves << scheme.mantissa_bits);
        if scheme.is_bits::<T>() {
            seen.zeros = zeros;
        }
        // Fewer than were seen, if their counters were full; then the sum tells that of the others.
        let taken = if careful { zeros } else { zeros.max(seen.zeros) };
        let binned = piece.len() as u64 - taken;
        let tiny = zeros.saturating_sub(seen.zeros);
        Counted { seen, binned, tiny }
    }

    /// Counts the values that share their bin with zero; returns how many there are.
    #[cold]
    fn count_tiny(&mut self, block: &[f32]) -> u64 {
        const FEW: usize = 16; // are looked at together, as most are not among them
        let layout = self.layout();
        let Some(pages) = &mut self.pages else { return 0 };
        let beyond = (1u32 << layout.shift()) - 1;
        let is_tiny = |x: &f32| x.abs().to_bits().wrapping_sub(1) < beyond;
        let mut number = 0;
        for few in block.chunks(FEW) {
            if few.iter().fold(false, |any, x| any | is_tiny(x)) {
                for &x in few.iter().filter(|&x| is_tiny(x)) {
                    pages.increment(layout.code(x));
                    number += 1;
                }
            }
        }
        number
    }

    /// Counts the non-finite values of a block, and finds the extremes among the others.
    pub(super) fn recount_non_finite(&mut self, block: &[f32], seen: &mut Summary) {
        for &x in block {
            if x.is_nan() {
                self.nan = self.nan.saturating_add(1);
            } else if x == f32::INFINITY {
                self.posinf = self.posinf.saturating_add(1);
            } else if x == f32::NEG_INFINITY {
                self.neginf = self.neginf.saturating_add(1);
            } else {
                seen.add(x);
            }
        }
    }

    /// Counts a few elements straight into the pages.
    fn record_small(&mut self, block: &[f32]) -> Summary {
        let layout = self.layout();
        self.fetch_counters();
        let Glance { mut seen, finite, bits } = glance(block);
        let exact = if finite {
            layout.keeps(bits)
        } else {
            seen = Summary::new();
            self.recount_non_finite(block, &mut seen);
            drops_nothing(block, layout)
        };
        self.exact = self.exact && exact;
        if finite {
            SCRATCH.with_borrow_mut(|tables| self.count_few(block, &seen, &mut tables.rest));
        } else if let Some(pages) = &mut self.pages {
            for &x in block.iter().filter(|&&x| x != 0.0 && x.is_finite()) {
                pages.increment(layout.code(x));
            }
        }
        self.include(&seen, block.len());
        seen
    }

    pub(super) fn include(&mut self, seen: &Summary, len: usize) {
        self.count = self.count.saturating_add(len as u64);
        self.zeros = self.zeros.saturating_add(seen.zeros);
        // Adding +0 turns -0 into +0 and changes nothing else.
        self.min = self.min.min(seen.min) + 0.0;
        self.max = self.max.max(seen.max) + 0.0;
    }
}
