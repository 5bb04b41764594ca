//! Recording: the one loop over the data.
//!
//! A piece of at most 2^20 elements is counted (`count.rs`) in a scratch table of the thread, flat
//! and of 32-bit counters, so that the loop needs no look-up of pages; the table is then emptied
//! into the histogram's pages.
//!
//! Non-finite values need no care in the hot loop: they have codes too. They are noticed when the
//! table is emptied, and then the piece is read once more, slowly.
//!
//! Arrays of a few thousand elements are counted straight into the pages.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{
    Histogram, Pages,
    count::{Scheme, Summary, Tables, drops_nothing},
};
use crate::{
    float::{BLOCK, Element, Layout},
    parallel,
};

/// Elements counted between two emptyings of the scratch table; far below the 2^32 at which a
/// counter would overflow, and enough that emptying costs about one percent.
const PIECE: usize = 1 << 20;

/// Below this many elements for each bin of an octave, emptying the scratch table would cost more
/// than looking up pages: 1536 elements at 8 mantissa bits.
const SMALL: usize = 6;

/// Below this, a second thread is not worth waking.
const PARALLEL: usize = 1 << 18;

thread_local! {
    /// Two tables of counters by code, one behind the other; all zero between uses.
    static SCRATCH: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
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
                let piece = values.len().div_ceil(rayon::current_num_threads() * 4);
                let pieces = values.par_chunks(piece.clamp(PARALLEL / 64, PIECE));
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

    /// Counts one piece by way of the scratch table.
    fn record_piece<T: Element>(&mut self, piece: &[T]) -> Summary {
        let layout = self.layout();
        let scheme = Scheme::of::<T>(layout);
        SCRATCH.with_borrow_mut(|scratch| {
            let size = 2 * scheme.codes();
            if scratch.len() < 2 * size {
                *scratch = vec![0; 2 * size];
            }
            let (even, odd) = scratch.split_at_mut(size);
            let mut tables = Tables { even, odd: &mut odd[..size] };
            let mut seen = Summary::new();
            for block in piece.chunks(BLOCK) {
                tables.count(block, scheme, &mut seen);
                self.exact = self.exact && drops_nothing(block, layout);
            }
            seen.zeros = tables.take_zeros(scheme);
            if self.empty(&mut tables, scheme, &seen, piece.len() as u64) {
                seen = Summary::new();
                let mut buffer = [0.0; BLOCK];
                for block in piece.chunks(BLOCK) {
                    self.recount_non_finite(T::widen(block, &mut buffer), &mut seen);
                }
            }
            self.include(&seen, piece.len());
            seen
        })
    }

    /// Adds the scratch tables to the pages and clears them; tells whether there were non-finite
    /// values, which are dropped.
    ///
    /// Octaves are visited from that of the largest magnitude down, until all elements are
    /// accounted for: those above and below, where activations never are, are not touched.
    fn empty(&mut self, tables: &mut Tables, scheme: Scheme, seen: &Summary, len: u64) -> bool {
        let Scheme { mantissa_bits, octaves, offset } = scheme;
        let layout = self.layout();
        let mut take = |octave: usize, pages: Option<&mut Pages>| {
            let mut pages = pages;
            let mut sum = 0;
            for sign in [0, 1] {
                let first = (sign * octaves + octave) << mantissa_bits;
                let range = first..first + (1 << mantissa_bits);
                let (even, odd) = (&mut tables.even[range.clone()], &mut tables.odd[range]);
                sum += match pages.as_deref_mut() {
                    Some(pages) if octave == 0 && offset > 0 => {
                        take_subnormals(even, odd, sign == 1, pages)
                    }
                    Some(pages) => take_octave(
                        even,
                        odd,
                        Some((pages, sign * Layout::OCTAVES + offset + octave)),
                    ),
                    None => take_octave(even, odd, None),
                };
            }
            sum
        };
        let non_finite = take(octaves - 1, None);
        let mut left = len - seen.zeros - non_finite;
        let largest = layout.code(seen.min.abs().max(seen.max.abs())) >> mantissa_bits;
        for octave in (0..=largest.saturating_sub(offset).min(octaves - 2)).rev() {
            if left == 0 {
                break;
            }
            left -= take(octave, self.pages.as_mut());
        }
        debug_assert_eq!(left, 0, "every element has a code");
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
        let mut seen = Summary::new();
        for &x in block {
            seen.add(x);
        }
        let all_finite = block.iter().fold(true, |all, x| all & x.is_finite());
        if all_finite {
            self.exact = self.exact && drops_nothing(block, layout);
        } else {
            seen = Summary::new();
            self.recount_non_finite(block, &mut seen);
            self.exact = self.exact && block.iter().all(|x| drops_nothing(&[*x], layout));
        }
        if let Some(pages) = &mut self.pages {
            for &x in block {
                if x != 0.0 && (all_finite || x.is_finite()) {
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

/// Adds the counters of one octave to its page, if one is given, and clears them. Returns their sum.
fn take_octave(even: &mut [u32], odd: &mut [u32], page: Option<(&mut Pages, usize)>) -> u64 {
    // A piece has fewer than 2^32 elements.
    let sum = even.iter().chain(&*odd).fold(0u32, |sum, &n| sum.wrapping_add(n));
    if sum == 0 {
        return 0;
    }
    if let Some((pages, octave)) = page {
        pages.add_octave(octave, even, odd);
    }
    even.fill(0);
    odd.fill(0);
    u64::from(sum)
}

/// The subnormals of float16, of which number k is k · 2^-24, at their places in the layout.
fn take_subnormals(even: &mut [u32], odd: &mut [u32], negative: bool, pages: &mut Pages) -> u64 {
    let layout = pages.layout();
    let mut sum = 0;
    for (k, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
        let count = u64::from(std::mem::take(even)) + u64::from(std::mem::take(odd));
        if count > 0 {
            let magnitude = k as f32 * f32::from_bits((127 - 24) << 23);
            pages.add(layout.code(if negative { -magnitude } else { magnitude }), count);
        }
        sum += count;
    }
    sum
}
