//! Counting many values, a piece at a time, from one thread or from several at once.
//!
//! A piece of at most 2^20 elements is counted (`count.rs`) in scratch tables of the thread, flat,
//! so that the loop needs no look-up of pages; they are then emptied into the histogram's pages
//! (`empty.rs`), by one thread at a time.
//!
//! Looking at each counter, whether it was full, takes a sixth of the time. So the sum of all tells,
//! when a table is emptied; a piece of which some are missing is counted once more, with care, and so
//! are the next.
//!
//! Non-finite values need no care in the hot loop: they have codes too. They are noticed when it is
//! looked for what the tables hold, and then the piece is read once more, slowly, while other threads go on.

use std::{
    cell::RefCell,
    sync::{Mutex, PoisonError},
};

use super::{
    Histogram,
    count::drops_nothing,
    empty::Found,
    extremes::{NonFinite, Summary},
    tables::{Scheme, Tables},
};
use crate::{
    float::{BLOCK, Element, Layout},
    simd,
};

/// Elements counted between two emptyings of the scratch tables: enough that emptying costs about
/// one percent.
pub(super) const PIECE: usize = 1 << 20;

/// Elements that are looked at for repetitions and counted as one block.
const COUNTED: usize = 16 * BLOCK;

thread_local! {
    /// All zero between uses.
    static SCRATCH: RefCell<Tables> = const { RefCell::new(Tables::new()) };
}

/// Works with the thread's own tables.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Tables) -> R) -> R {
    SCRATCH.with_borrow_mut(work)
}

/// A histogram that takes in pieces of one array, from any number of threads.
pub(super) struct Pieces<'a> {
    whole: Mutex<(&'a mut Histogram, Summary)>,
    layout: Layout,
    exact: bool, // whether it is still asked if values have more bits than codes
}

impl<'a> Pieces<'a> {
    /// `layout` is the histogram's, [settled](Histogram::settle) for the values.
    pub(super) fn of(histogram: &'a mut Histogram, layout: Layout) -> Self {
        let exact = histogram.exact;
        Self { whole: Mutex::new((histogram, Summary::new())), layout, exact }
    }

    /// Counts a piece, of [`PIECE`] elements at most; waits for other threads only to empty the tables.
    pub(super) fn record<T: Element>(&self, piece: &[T]) {
        debug_assert!(piece.len() <= PIECE, "the tables are emptied so often");
        let scheme = Scheme::of::<T>(self.layout);
        with_scratch(|tables| {
            let counted = Counted::of(piece, scheme, self.layout, self.exact, tables);
            let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
            let (histogram, seen) = &mut *whole;
            histogram.take_in(piece.len(), scheme, &counted, tables);
            seen.join(&counted.seen);
            tables.octaves = counted.found.octaves;
        });
    }

    /// The smallest and the largest finite value of all pieces.
    pub(super) fn extremes(self) -> Option<(f32, f32)> {
        self.whole.into_inner().unwrap_or_else(PoisonError::into_inner).1.extremes()
    }
}

/// What is known of a piece whose counts are in the scratch tables.
struct Counted {
    found: Found,
    seen: Summary,
    non_finite: NonFinite,
    tiny: [u64; 2], // values above and below zero that share its bin, which the tables do not count
    exact: bool,    // whether codes keep all bits of the finite ones
}

impl Counted {
    fn of<T: Element>(
        piece: &[T],
        scheme: Scheme,
        layout: Layout,
        exact: bool,
        tables: &mut Tables,
    ) -> Self {
        tables.prepare(scheme);
        let careful = tables.take_care();
        Self::with(piece, scheme, layout, (exact, careful), tables).unwrap_or_else(|| {
            // A counter was full.
            tables.begin_again();
            Self::with(piece, scheme, layout, (exact, true), tables)
                .expect("with care every element is found")
        })
    }

    /// Counts a piece, and takes out what the tables count of zeros. `None` if a counter was full.
    fn with<T: Element>(
        piece: &[T],
        scheme: Scheme,
        layout: Layout,
        (mut exact, careful): (bool, bool),
        tables: &mut Tables,
    ) -> Option<Self> {
        let (mut seen, mut zeros) = (Summary::new(), 0);
        for block in piece.chunks(COUNTED) {
            zeros += tables.count(block, scheme, careful, &mut seen);
            exact = exact && drops_nothing(block, layout);
        }
        zeros += tables.take(0) + tables.take(scheme.octaves << scheme.mantissa_bits);
        if scheme.is_bits::<T>() {
            seen.zeros = zeros;
        }
        // Fewer than were seen, if their counters were full; then the sum tells that of the others.
        let taken = if careful { zeros } else { zeros.max(seen.zeros) };
        let found = tables.find(scheme, layout, &seen, piece.len() as u64 - taken)?;
        let tiny = match zeros.saturating_sub(seen.zeros) {
            0 => [0; 2],
            tiny => count_tiny(piece, layout, tiny),
        };
        let mut non_finite = NonFinite::default();
        if found.non_finite {
            let (zeros, mut buffer) = (seen.zeros, [0.0; BLOCK]);
            seen = Summary::new();
            for block in piece.chunks(BLOCK) {
                non_finite.count(T::widen(block, &mut buffer), &mut seen);
            }
            debug_assert_eq!(seen.zeros, zeros, "they are finite");
        }
        Some(Self { found, seen, non_finite, tiny, exact })
    }
}

/// How many values above and below zero share its bin, of which there are `left`.
#[cold]
fn count_tiny<T: Element>(piece: &[T], layout: Layout, mut left: u64) -> [u64; 2] {
    const FEW: usize = 16; // are looked at together, as most are not among them
    let beyond = (1u32 << layout.shift()) - 1;
    let is_tiny = |x: &f32| x.abs().to_bits().wrapping_sub(1) < beyond;
    let (mut tiny, mut buffer) = ([0; 2], [0.0; BLOCK]);
    for block in piece.chunks(BLOCK) {
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
    /// Counts the elements of all `parts`, each where `share_out` calls for its number, which it must once: on
    /// any threads, at once. Returns the smallest and the largest finite value.
    ///
    /// # Errors
    /// What `share_out` returns. Parts that were called for are in the histogram all the same.
    ///
    /// # Panics
    /// If it calls for a number that is not below that of the parts.
    pub fn record_parts<T: Element, E>(
        &mut self,
        parts: &[&[T]],
        share_out: impl FnOnce(&(dyn Fn(usize) + Sync)) -> Result<(), E>,
    ) -> Result<Option<(f32, f32)>, E> {
        let layout = self.settle::<T>();
        let pieces = Pieces::of(self, layout);
        share_out(&|part| {
            simd::with_subnormals(|| {
                parts[part].chunks(PIECE).for_each(|piece| pieces.record(piece));
            });
        })?;
        Ok(pieces.extremes())
    }

    /// Takes in a piece of so many elements that was counted in the scratch tables, and clears these.
    fn take_in(&mut self, len: usize, scheme: Scheme, counted: &Counted, tables: &mut Tables) {
        self.exact = self.exact && counted.exact;
        if let Some(pages) = &mut self.pages {
            for (zero, &count) in [0.0, -0.0].into_iter().zip(&counted.tiny) {
                if count > 0 {
                    pages.add(pages.layout().code(zero), count);
                }
            }
        }
        self.empty(tables, scheme, &counted.found);
        self.include(&counted.seen, &counted.non_finite, len);
    }
}
