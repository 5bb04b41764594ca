//! Recording: the one loop over the data.
//!
//! A piece of at most 2^20 elements is counted (`count.rs`) in scratch tables of the thread, flat,
//! so that the loop needs no look-up of pages; they are then emptied into the histogram's pages.
//!
//! Non-finite values need no care in the hot loop: they have codes too. They are noticed when the
//! table is emptied, and then the piece is read once more, slowly.
//!
//! Arrays of a few hundred elements are counted straight into the pages.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{
    Histogram, Pages,
    count::drops_nothing,
    extremes::{Glance, Summary, glance},
    tables::{FULL, Scheme, Tables},
};
use crate::{
    float::{BLOCK, Element, Layout},
    parallel,
};

/// Elements counted between two emptyings of the scratch tables: enough that emptying costs about
/// one percent.
const PIECE: usize = 1 << 20;

/// Below this many elements for each bin of an octave, emptying the scratch table would cost more
/// than looking up pages: 768 elements at 8 mantissa bits.
const SMALL: usize = 3;

/// Below this, a second thread is not worth waking.
const PARALLEL: usize = 1 << 18;

thread_local! {
    /// All zero between uses.
    static SCRATCH: RefCell<Tables> = const { RefCell::new(Tables::new()) };
}

impl Histogram {
    /// Counts every element of `values`, with rayon's threads when there are many.
    ///
    /// NaN and infinities are counted apart, and ±0 in `zeros`. The result does not depend on how
    /// the data are split or ordered, nor on the number of threads. Returns the smallest and the
    /// largest finite value of this call, if there is one.
    pub fn record<T: Element>(&mut self, values: &[T]) -> Option<(f32, f32)> {
        let layout = self.settle::<T>();
        let mut seen = Summary::new();
        if values.len() < SMALL * layout.bins_per_octave() {
            let mut buffer = [0.0; BLOCK];
            for block in values.chunks(BLOCK) {
                seen.join(&self.record_small(T::widen(block, &mut buffer)));
            }
            return seen.extremes();
        }
        let part = parallel::run(values.len() >= PARALLEL, |parallel| {
            parallel.then(|| {
                let piece = values.len().div_ceil(rayon::current_num_threads() * 2);
                let pieces = values.par_chunks(piece.clamp(PARALLEL / 2, PIECE));
                let empty = || Self::nothing(layout);
                pieces.fold(empty, Self::with_piece).reduce(empty, |mut a, b| {
                    a.merge(&b);
                    a
                })
            })
        });
        if let Some(part) = part {
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

    fn with_piece<T: Element>(mut self, piece: &[T]) -> Self {
        self.record_piece(piece);
        self
    }

    /// Counts one piece by way of the scratch tables.
    fn record_piece<T: Element>(&mut self, piece: &[T]) -> Summary {
        let layout = self.layout();
        let scheme = Scheme::of::<T>(layout);
        SCRATCH.with_borrow_mut(|tables| {
            tables.prepare(scheme);
            let mut seen = Summary::new();
            for block in piece.chunks(BLOCK) {
                tables.count(block, scheme, &mut seen);
                self.exact = self.exact && drops_nothing(block, layout);
            }
            let zeros = tables.take(0) + tables.take(scheme.octaves << scheme.mantissa_bits);
            if scheme.is_bits::<T>() {
                seen.zeros = zeros;
            }
            let mut buffer = [0.0; BLOCK];
            if zeros > seen.zeros {
                // The bin of zero holds values as well, of less than 2^-126.
                for block in piece.chunks(BLOCK) {
                    self.count_tiny(T::widen(block, &mut buffer));
                }
            }
            if self.empty(tables, scheme, &seen, piece.len() as u64 - zeros) {
                let zeros = seen.zeros;
                seen = Summary::new();
                for block in piece.chunks(BLOCK) {
                    self.recount_non_finite(T::widen(block, &mut buffer), &mut seen);
                }
                debug_assert_eq!(seen.zeros, zeros, "they are finite");
            }
            self.include(&seen, piece.len());
            seen
        })
    }

    /// Counts the values that share their bin with zero.
    #[cold]
    fn count_tiny(&mut self, block: &[f32]) {
        let layout = self.layout();
        let Some(pages) = &mut self.pages else { return };
        let zeros = [layout.code(0.0), layout.code(-0.0)];
        for &x in block {
            if x != 0.0 && zeros.contains(&layout.code(x)) {
                pages.increment(layout.code(x));
            }
        }
    }

    /// Adds the scratch tables, without those of zero, to the pages and clears them; tells whether
    /// there were non-finite values, which are dropped. `left` elements are in the tables.
    ///
    /// Octaves are visited from that of the largest magnitude down, until all elements are
    /// accounted for: those above and below, where activations never are, are not touched.
    fn empty(
        &mut self,
        tables: &mut Tables,
        scheme: Scheme,
        seen: &Summary,
        mut left: u64,
    ) -> bool {
        let Scheme { mantissa_bits, octaves, offset } = scheme;
        let layout = self.layout();
        let Some(pages) = &mut self.pages else { return false };
        let counters = |sign: usize, octave: usize| {
            let first = (sign * octaves + octave) << mantissa_bits;
            first..first + (1 << mantissa_bits)
        };
        let mut non_finite = 0;
        for code in tables.take_full() {
            let (octave, place) = (code as usize >> mantissa_bits, code as usize);
            let (sign, octave) = (octave / octaves, octave % octaves);
            left -= FULL;
            if octave == octaves - 1 {
                non_finite += FULL;
            } else if octave == 0 && offset > 0 {
                pages.add(subnormal(layout, place, scheme), FULL);
            } else {
                let shift = (sign * (Layout::OCTAVES - octaves) + offset) << mantissa_bits;
                pages.add(place + shift, FULL);
            }
        }
        for sign in [0, 1] {
            let found = tables.sum(counters(sign, octaves - 1));
            if found > 0 {
                tables.take_range(counters(sign, octaves - 1), |_| ());
            }
            (non_finite, left) = (non_finite + found, left - found);
        }
        let largest = layout.code(seen.min.abs().max(seen.max.abs())) >> mantissa_bits;
        let mut found = [0; 2 * Layout::OCTAVES]; // octaves of the layout
        let mut number = 0;
        for octave in (0..=largest.saturating_sub(offset).min(octaves - 2)).rev() {
            if left == 0 {
                break;
            }
            for sign in [0, 1] {
                let sum = tables.sum(counters(sign, octave));
                if sum > 0 {
                    found[number] = (sign * Layout::OCTAVES + offset + octave) as u16;
                    number += 1;
                }
                left -= sum;
            }
        }
        debug_assert_eq!(left, 0, "every element has a code");
        pages.reserve(&found[..number]);
        for &page in &found[..number] {
            let page = usize::from(page);
            let octave = page % Layout::OCTAVES - offset;
            let range = counters(page / Layout::OCTAVES, octave);
            let first = range.start;
            tables.take_range(range, |counts| {
                if octave == 0 && offset > 0 {
                    for (code, &count) in (first..).zip(counts).filter(|&(_, &n)| n > 0) {
                        pages.add(subnormal(layout, code, scheme), count.into());
                    }
                } else {
                    pages.add_octave(page, counts);
                }
            });
        }
        non_finite > 0
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
        let Glance { mut seen, finite, bits } = glance(block);
        let exact = if finite {
            layout.keeps(bits)
        } else {
            seen = Summary::new();
            self.recount_non_finite(block, &mut seen);
            drops_nothing(block, layout)
        };
        self.exact = self.exact && exact;
        if let Some(pages) = &mut self.pages {
            for &x in block {
                if x != 0.0 && (finite || x.is_finite()) {
                    pages.increment(layout.code(x));
                }
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

/// The code in the layout of a subnormal of float16: number k is k · 2^-24.
fn subnormal(layout: Layout, code: usize, scheme: Scheme) -> usize {
    let first_negative = scheme.octaves << scheme.mantissa_bits;
    let magnitude = (code % first_negative) as f32 * f32::from_bits((127 - 24) << 23);
    layout.code(if code < first_negative { magnitude } else { -magnitude })
}
