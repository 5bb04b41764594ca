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
    parallel, simd,
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
            let size = 2 * layout.codes();
            if scratch.len() < 2 * size {
                *scratch = vec![0; 2 * size];
            }
            let (even, odd) = scratch.split_at_mut(size);
            let odd = &mut odd[..size];
            let mut buffer = [0.0; BLOCK];
            let mut codes = [0u32; BLOCK];
            let mut seen = Summary::new();
            for block in piece.chunks(BLOCK) {
                let block = T::widen(block, &mut buffer);
                let codes = &mut codes[..block.len()];
                let lone = simd::dispatch(|| encode(block, layout, codes, &mut seen));
                if self.exact {
                    self.exact = drops_nothing(block, layout);
                }
                if let Some(code) = lone {
                    even[code as usize] += codes.len() as u32;
                } else {
                    count(codes, even, odd);
                }
            }
            for lane in layout.codes()..layout.codes() + ZERO_LANES {
                seen.zeros += u64::from(even[lane]) + u64::from(odd[lane]);
                (even[lane], odd[lane]) = (0, 0);
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
        let mut left = len - seen.zeros - non_finite;
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

/// What one vectorisable pass finds. The extremes are those of the finite values only if there
/// are no infinities.
struct Summary {
    min: f32,
    max: f32,
    zeros: u64,
}

impl Summary {
    fn new() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, zeros: 0 }
    }

    fn join(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn extremes(&self) -> Option<(f32, f32)> {
        (self.min <= self.max).then_some((self.min + 0.0, self.max + 0.0))
    }

    fn add(&mut self, block: &[f32]) {
        for &x in block {
            // Comparisons with NaN are false, so NaN is passed over.
            self.min = if x < self.min { x } else { self.min };
            self.max = if x > self.max { x } else { self.max };
            self.zeros += u64::from(x == 0.0);
        }
    }
}

/// Counters for zeros, behind those of the codes: one a lane, so that the zeros of a `ReLU` do not
/// wait for each other's increment.
const ZERO_LANES: usize = 16;

/// Writes the code of each value, and finds the extremes. If all codes are one, returns it.
#[inline(always)]
fn encode(block: &[f32], layout: Layout, codes: &mut [u32], seen: &mut Summary) -> Option<u32> {
    let (shift, zero) = (layout.shift(), layout.codes() as u32);
    let mut min = [f32::INFINITY; ZERO_LANES];
    let mut max = [f32::NEG_INFINITY; ZERO_LANES];
    let first = block.first()?.to_bits() >> shift;
    let mut differ = [0u32; ZERO_LANES];
    let (values, rest) = block.as_chunks::<ZERO_LANES>();
    let (out, out_rest) = codes.as_chunks_mut::<ZERO_LANES>();
    for (values, out) in values.iter().zip(out) {
        for i in 0..ZERO_LANES {
            let x = values[i];
            min[i] = if x < min[i] { x } else { min[i] };
            max[i] = if x > max[i] { x } else { max[i] };
            let code = x.to_bits() >> shift;
            differ[i] |= code ^ first;
            out[i] = if x.to_bits() << 1 == 0 { zero + i as u32 } else { code };
        }
    }
    for (i, (&x, out)) in rest.iter().zip(out_rest).enumerate() {
        min[i] = if x < min[i] { x } else { min[i] };
        max[i] = if x > max[i] { x } else { max[i] };
        let code = x.to_bits() >> shift;
        differ[i] |= code ^ first;
        *out = if x.to_bits() << 1 == 0 { zero + i as u32 } else { code };
    }
    seen.min = min.into_iter().fold(seen.min, |a, b| if b < a { b } else { a });
    seen.max = max.into_iter().fold(seen.max, |a, b| if b > a { b } else { a });
    let one = differ.into_iter().fold(0, |a, b| a | b) == 0;
    // The lowest bin holds zeros and subnormals.
    (one && first << 1 != 0 && first & (zero / 2 - 1) != 0).then_some(first)
}

/// Whether the code keeps all bits of every finite value of the block.
fn drops_nothing(block: &[f32], layout: Layout) -> bool {
    let mask = (1u32 << layout.shift()) - 1;
    let all = block.iter().fold(0, |bits, x| bits | if x.is_finite() { x.to_bits() } else { 0 });
    all & mask == 0
}

/// The hot loop. Both tables have a power of two of counters, more than there are codes.
#[inline]
fn count(codes: &[u32], even: &mut [u32], odd: &mut [u32]) {
    let mask = even.len() - 1;
    let (even, odd) = (&mut even[..=mask], &mut odd[..=mask]);
    let (chunks, rest) = codes.as_chunks::<8>();
    for chunk in chunks {
        for pair in chunk.as_chunks::<2>().0 {
            even[pair[0] as usize & mask] += 1;
            odd[pair[1] as usize & mask] += 1;
        }
    }
    for &code in rest {
        even[code as usize & mask] += 1;
    }
}
