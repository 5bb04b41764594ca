//! Recording: the one loop over the data.
//!
//! A piece of at most 2^20 elements is read a block at a time. For each block one vectorisable
//! pass finds the minimum, the maximum and the zeros, while the block is in the first-level cache;
//! a second pass increments counters. Counting goes into a scratch table of the thread, flat
//! and of 32-bit counters, so that the loop needs no look-up of pages; the table is then emptied
//! into the histogram's pages. Even and odd elements have tables of their own: consecutive equal
//! values would otherwise wait for each other's increment.
//!
//! Non-finite values need no care in the hot loop: they have codes too. They are noticed when the
//! table is emptied, and then the piece is read once more, slowly.
//!
//! Arrays of a few thousand elements are counted straight into the pages.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{Histogram, Pages};
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
                let empty = || Self::empty(layout);
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
    fn settle<T: Element>(&mut self) -> Layout {
        let native = Layout::of(T::MANTISSA_BITS);
        if !self.fixed {
            self.coarsen_to(native);
        }
        self.pages.get_or_insert_with(|| Pages::new(native)).layout()
    }

    fn empty(layout: Layout) -> Self {
        Self { pages: Some(Pages::new(layout)), ..Self::new() }
    }

    fn with_piece<T: Element>(mut self, piece: &[T]) -> Self {
        self.record_piece(piece);
        self
    }

    /// Counts one piece by way of the scratch table.
    fn record_piece<T: Element>(&mut self, piece: &[T]) -> Summary {
        let layout = self.layout();
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < 2 * layout.codes() {
                *scratch = vec![0; 2 * layout.codes()];
            }
            let (even, odd) = scratch.split_at_mut(layout.codes());
            let odd = &mut odd[..layout.codes()];
            let mut buffer = [0.0; BLOCK];
            let mut seen = Summary::new();
            for block in piece.chunks(BLOCK) {
                let block = T::widen(block, &mut buffer);
                seen.add(block);
                if self.exact {
                    self.exact = drops_nothing(block, layout);
                }
                count(block, layout, even, odd);
            }
            if self.empty_scratch(&seen, piece.len() as u64, even, odd) {
                seen = Summary::new();
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
    fn empty_scratch(
        &mut self,
        seen: &Summary,
        len: u64,
        even: &mut [u32],
        odd: &mut [u32],
    ) -> bool {
        let layout = self.layout();
        let size = layout.bins_per_octave();
        for (octave, zeros) in [(0, seen.positive_zeros), (Layout::OCTAVES, seen.negative_zeros)] {
            // Exact zeros are counted apart, so the lowest bin keeps the rest.
            let slot = octave * size;
            let rest = u64::from(even[slot]) + u64::from(odd[slot]) - zeros;
            (even[slot], odd[slot]) = (rest as u32, 0);
        }
        let mut take = |exponent: usize, pages: Option<&mut Pages>| {
            let octaves = [exponent, Layout::OCTAVES + exponent];
            let mut pages = pages;
            octaves.map(|octave| {
                let range = octave * size..(octave + 1) * size;
                let page = pages.as_deref_mut().map(|pages| (pages, octave));
                take_octave(&mut even[range.clone()], &mut odd[range], page)
            })
        };
        let [posinf_or_nan, neginf_or_nan] = take(Layout::OCTAVES - 1, None);
        let non_finite = posinf_or_nan + neginf_or_nan;
        let mut left = len - seen.positive_zeros - seen.negative_zeros - non_finite;
        let largest = layout.code(seen.min.abs().max(seen.max.abs())) >> layout.mantissa_bits();
        for exponent in (0..=largest.min(Layout::OCTAVES - 2)).rev() {
            if left == 0 {
                break;
            }
            let [positive, negative] = take(exponent, self.pages.as_mut());
            left -= positive + negative;
        }
        debug_assert_eq!(left, 0, "every element has a code");
        non_finite > 0
    }

    /// Counts the non-finite values of a block, and finds the extremes among the others.
    fn recount_non_finite(&mut self, block: &[f32], seen: &mut Summary) {
        let mut finite = [0.0; BLOCK];
        let mut len = 0;
        for &x in block {
            if x.is_nan() {
                self.nan = self.nan.saturating_add(1);
            } else if x == f32::INFINITY {
                self.posinf = self.posinf.saturating_add(1);
            } else if x == f32::NEG_INFINITY {
                self.neginf = self.neginf.saturating_add(1);
            } else {
                finite[len] = x;
                len += 1;
            }
        }
        seen.add(&finite[..len]);
    }

    /// Counts a few elements straight into the pages.
    fn record_small(&mut self, block: &[f32]) -> Summary {
        let layout = self.layout();
        let mut seen = Summary::new();
        seen.add(block);
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

    fn include(&mut self, seen: &Summary, len: usize) {
        self.count = self.count.saturating_add(len as u64);
        self.zeros = self.zeros.saturating_add(seen.positive_zeros + seen.negative_zeros);
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

/// What one vectorisable pass finds. The extremes are those of the finite values only if there
/// are no infinities.
struct Summary {
    min: f32,
    max: f32,
    positive_zeros: u64,
    negative_zeros: u64,
}

impl Summary {
    fn new() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, positive_zeros: 0, negative_zeros: 0 }
    }

    fn join(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn extremes(&self) -> Option<(f32, f32)> {
        (self.min <= self.max).then_some((self.min + 0.0, self.max + 0.0))
    }

    fn add(&mut self, block: &[f32]) {
        const LANES: usize = 16; // four SSE registers: independent chains
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut zeros = [[0u32; LANES]; 2];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                let x = chunk[i];
                // Comparisons with NaN are false, so NaN is passed over.
                min[i] = if x < min[i] { x } else { min[i] };
                max[i] = if x > max[i] { x } else { max[i] };
                zeros[0][i] += u32::from(x.to_bits() == 0);
                zeros[1][i] += u32::from(x.to_bits() == 1 << 31);
            }
        }
        for (i, &x) in rest.iter().enumerate() {
            min[i] = if x < min[i] { x } else { min[i] };
            max[i] = if x > max[i] { x } else { max[i] };
            zeros[0][i] += u32::from(x.to_bits() == 0);
            zeros[1][i] += u32::from(x.to_bits() == 1 << 31);
        }
        self.min = min.into_iter().fold(self.min, f32::min);
        self.max = max.into_iter().fold(self.max, f32::max);
        self.positive_zeros += zeros[0].iter().map(|&n| u64::from(n)).sum::<u64>();
        self.negative_zeros += zeros[1].iter().map(|&n| u64::from(n)).sum::<u64>();
    }
}

/// Whether the code keeps all bits of every finite value of the block.
fn drops_nothing(block: &[f32], layout: Layout) -> bool {
    let mask = (1u32 << layout.shift()) - 1;
    let all = block.iter().fold(0, |bits, x| bits | if x.is_finite() { x.to_bits() } else { 0 });
    all & mask == 0
}

/// The hot loop. Both tables have one counter for each code.
fn count(block: &[f32], layout: Layout, even: &mut [u32], odd: &mut [u32]) {
    // Fixing the shift lets the compiler see that no index is out of bounds.
    match layout.mantissa_bits() {
        5 => count_at::<18>(block, even, odd),
        7 => count_at::<16>(block, even, odd),
        8 => count_at::<15>(block, even, odd),
        10 => count_at::<13>(block, even, odd),
        _ => {
            let shift = layout.shift();
            let (pairs, rest) = block.as_chunks::<2>();
            for [a, b] in pairs {
                even[(a.to_bits() >> shift) as usize] += 1;
                odd[(b.to_bits() >> shift) as usize] += 1;
            }
            for x in rest {
                even[(x.to_bits() >> shift) as usize] += 1;
            }
        }
    }
}

fn count_at<const SHIFT: u32>(block: &[f32], even: &mut [u32], odd: &mut [u32]) {
    let codes = 1usize << (32 - SHIFT);
    let (even, odd) = (&mut even[..codes], &mut odd[..codes]);
    let (chunks, rest) = block.as_chunks::<8>();
    for chunk in chunks {
        for pair in chunk.as_chunks::<2>().0 {
            even[(pair[0].to_bits() >> SHIFT) as usize] += 1;
            odd[(pair[1].to_bits() >> SHIFT) as usize] += 1;
        }
    }
    for x in rest {
        even[(x.to_bits() >> SHIFT) as usize] += 1;
    }
}
