//! Recording a large array in chunks, on one thread or on several.
//!
//! Each thread counts its chunk in its own scratch counters, then flushes them into the histogram's
//! pages, one thread at a time. A histogram for each thread, merged afterwards, took 1.15 to 1.4 ms
//! of the 4.8 to 6.0 ms that observing a sample of the PP-OCR recognizer takes.
//!
//! # Counters that wrap
//!
//! Checking each 16-bit counter after its increment takes a sixth of the time (0.34 against 0.29 ns
//! a value). So a chunk is first counted unchecked. A counter that wrapped leaves the sum of all
//! counters 65,536 too small, and the flush needs this sum anyway. Then the chunk is counted again,
//! checked, and so are the next chunks. It takes a value other than zero that makes up a sixteenth
//! of a chunk.
//!
//! # Values that are not finite
//!
//! NaN and infinities have codes above the finite ones, so the loop ignores them. If their counters
//! are not zero, the chunk is read a second time to count them, while other threads go on.

use std::{
    cell::RefCell,
    sync::{Mutex, PoisonError},
};

use super::flush::Occupied;
use crate::histogram::{
    Histogram,
    kernel::{CodeSpace, NonFiniteCounts, Subhistograms, Summary, drops_nothing},
};
use crate::{
    float::{Element, Layout, WIDEN_BLOCK},
    simd,
};

/// Most elements of a chunk: enough that flushing the counters takes about 1 % of the time.
pub(super) const CHUNK: usize = 1 << 20;

/// Elements that are sampled and counted as one block. Blocks of 32,768 took 0.326 ns a value where
/// those of 8192 took 0.350.
const SAMPLE_BLOCK: usize = 16 * WIDEN_BLOCK;

thread_local! {
    /// All zero between uses.
    static SCRATCH: RefCell<Subhistograms> = const { RefCell::new(Subhistograms::new()) };
}

/// Works with this thread's scratch counters.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Subhistograms) -> R) -> R {
    SCRATCH.with_borrow_mut(work)
}

/// A histogram that records the chunks of one array, from any number of threads.
pub(super) struct Chunks<'a> {
    whole: Mutex<(&'a mut Histogram, Summary)>,
    layout: Layout,
    exact: bool, // whether the histogram is exact so far; if not, dropped bits no longer matter
}

impl<'a> Chunks<'a> {
    /// `layout` is that of the histogram, [coarsened](Histogram::coarsen_for) for the values.
    pub(super) fn of(histogram: &'a mut Histogram, layout: Layout) -> Self {
        let exact = histogram.exact;
        Self { whole: Mutex::new((histogram, Summary::new())), layout, exact }
    }

    /// Records a chunk of at most [`CHUNK`] elements. Waits for other threads only to flush.
    pub(super) fn record<T: Element>(&self, chunk: &[T]) {
        debug_assert!(chunk.len() <= CHUNK, "an unchecked count needs chunks of at most CHUNK");
        let space = CodeSpace::of::<T>(self.layout);
        with_scratch(|scratch| {
            let counted = CountedChunk::of(chunk, space, self.layout, self.exact, scratch);
            let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
            let (histogram, seen) = &mut *whole;
            histogram.add_chunk(chunk.len(), space, &counted, scratch);
            seen.merge(&counted.seen);
            scratch.octaves = counted.occupied.octaves;
        });
    }

    /// The finite minimum and maximum of all chunks.
    pub(super) fn extremes(self) -> Option<(f32, f32)> {
        self.whole.into_inner().unwrap_or_else(PoisonError::into_inner).1.extremes()
    }
}

/// What is known of a chunk whose counts are in the scratch counters.
struct CountedChunk {
    occupied: Occupied,
    seen: Summary,
    non_finite: NonFiniteCounts,
    tiny: [u64; 2], // values above and below zero in the bins of ±0, whose counters were cleared
    exact: bool,    // whether codes keep all bits of the finite values
}

impl CountedChunk {
    fn of<T: Element>(
        chunk: &[T],
        space: CodeSpace,
        layout: Layout,
        exact: bool,
        scratch: &mut Subhistograms,
    ) -> Self {
        scratch.prepare(space);
        let checked = scratch.take_checked();
        Self::with(chunk, space, layout, Pass { exact, checked }, scratch).unwrap_or_else(|| {
            scratch.restart_checked(); // a counter wrapped
            Self::with(chunk, space, layout, Pass { exact, checked: true }, scratch)
                .expect("a checked count finds every element")
        })
    }

    /// Counts a chunk and clears the counters of zeros. `None` if a counter wrapped unnoticed.
    fn with<T: Element>(
        chunk: &[T],
        space: CodeSpace,
        layout: Layout,
        Pass { mut exact, checked }: Pass,
        scratch: &mut Subhistograms,
    ) -> Option<Self> {
        let (mut seen, mut zeros) = (Summary::new(), 0);
        for block in chunk.chunks(SAMPLE_BLOCK) {
            zeros += scratch.count(block, space, checked, &mut seen);
            exact = exact && drops_nothing(block, layout);
        }
        zeros += scratch.take(0) + scratch.take(space.octaves << space.mantissa_bits);
        if space.is_bits::<T>() {
            seen.zeros = zeros;
        }
        // Without a check, the counters of zeros may have wrapped. Then fewer zeros are found than
        // were seen, and the number seen is the right one.
        let taken = if checked { zeros } else { zeros.max(seen.zeros) };
        let occupied = scratch.occupied(space, layout, &seen, chunk.len() as u64 - taken)?;
        let tiny = match zeros.saturating_sub(seen.zeros) {
            0 => [0; 2],
            tiny => count_tiny(chunk, layout, tiny),
        };
        let mut non_finite = NonFiniteCounts::default();
        if occupied.non_finite {
            let (zeros, mut buffer) = (seen.zeros, [0.0; WIDEN_BLOCK]);
            seen = Summary::new();
            for block in chunk.chunks(WIDEN_BLOCK) {
                non_finite.count(T::widen(block, &mut buffer), &mut seen);
            }
            debug_assert_eq!(seen.zeros, zeros, "zeros are finite");
        }
        Some(Self { occupied, seen, non_finite, tiny, exact })
    }
}

/// How one pass over a chunk counts.
#[derive(Clone, Copy)]
struct Pass {
    /// look for bits that the codes drop
    exact: bool,
    /// check every counter after its increment
    checked: bool,
}

/// Counts the `left` values of the bins of ±0 that are not zero, by sign.
///
/// Only a search through the chunk can tell their signs. They are below 2^-134 at 8 mantissa bits.
#[cold]
fn count_tiny<T: Element>(chunk: &[T], layout: Layout, mut left: u64) -> [u64; 2] {
    const FEW: usize = 16; // are tested together, since most groups have none
    let beyond = (1u32 << layout.shift()) - 1;
    let is_tiny = |x: &f32| x.abs().to_bits().wrapping_sub(1) < beyond;
    let (mut tiny, mut buffer) = ([0; 2], [0.0; WIDEN_BLOCK]);
    for block in chunk.chunks(WIDEN_BLOCK) {
        if left == 0 {
            break;
        }
        for few in T::widen(block, &mut buffer).chunks(FEW) {
            if few.iter().fold(false, |any, x| any | is_tiny(x)) {
                for x in few.iter().filter(|&x| is_tiny(x)) {
                    tiny[usize::from(x.is_sign_negative())] += 1;
                    left = left.saturating_sub(1);
                }
            }
        }
    }
    tiny
}

impl Histogram {
    /// Records all `parts` on threads of the caller's choice. `share_out` is given a function that
    /// records one part; it must call this once with each part's number, from any threads. Returns
    /// the finite minimum and maximum.
    ///
    /// # Errors
    /// The error that `share_out` returns. Parts that it has recorded stay in the histogram.
    ///
    /// # Panics
    /// If `share_out` passes a number without a part.
    pub fn record_parts<T: Element, E>(
        &mut self,
        parts: &[&[T]],
        share_out: impl FnOnce(&(dyn Fn(usize) + Sync)) -> Result<(), E>,
    ) -> Result<Option<(f32, f32)>, E> {
        let layout = self.coarsen_for::<T>();
        let chunks = Chunks::of(self, layout);
        share_out(&|part| {
            simd::with_denormals(|| {
                parts[part].chunks(CHUNK).for_each(|chunk| chunks.record(chunk));
            });
        })?;
        Ok(chunks.extremes())
    }

    /// Adds a counted chunk of `len` elements, and clears the scratch counters.
    fn add_chunk(
        &mut self,
        len: usize,
        space: CodeSpace,
        counted: &CountedChunk,
        scratch: &mut Subhistograms,
    ) {
        self.exact = self.exact && counted.exact;
        if let Some(pages) = &mut self.pages {
            for (zero, &count) in [0.0, -0.0].into_iter().zip(&counted.tiny) {
                if count > 0 {
                    pages.add(pages.layout().code(zero), count);
                }
            }
        }
        self.flush(scratch, space, &counted.occupied);
        self.include(&counted.seen, &counted.non_finite, len);
    }
}
