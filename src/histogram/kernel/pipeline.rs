//! The inner loop: it increments the counters of one step of values while it scans the next step.
//!
//! Counting is a chain of increments, at best one a cycle. Scanning is vector code. Run one after
//! the other, each waits for the other: 0.53 ns a value against 0.45 ns when they alternate.

use super::{
    keys::{BinKey, LANES},
    scratch::TABLES,
};
use crate::simd;

/// Values that are scanned before they are counted. Within a step, scanning and counting alternate
/// every [`LANES`] values, so that neither waits for the other.
const STEP: usize = 128;

/// How the pipeline counts a block.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// codes repeat: use all subhistograms, and count a step of equal codes at once
    pub(super) repeats: bool,
    /// look at every counter after its increment, and list those that wrapped
    pub(super) checked: bool,
}

/// Increments the counters of some values.
#[inline(always)]
fn tally<K: BinKey, const USED: usize, const CHECKED: bool>(
    key: K,
    values: &[K::Value],
    tables: &mut [&mut [u16]; TABLES],
    wrapped: &mut Vec<u32>,
) {
    for four in values.as_chunks::<4>().0 {
        for (i, code) in key.codes(four).into_iter().enumerate() {
            add::<CHECKED>(tables[i % USED], code, 1, wrapped);
        }
    }
}

#[inline(always)]
fn add<const CHECKED: bool>(counters: &mut [u16], code: usize, n: u16, wrapped: &mut Vec<u32>) {
    let (sum, has_wrapped) = counters[code].overflowing_add(n);
    counters[code] = sum;
    if CHECKED && has_wrapped {
        note(wrapped, code);
    }
}

#[cold]
#[inline(never)]
fn note(wrapped: &mut Vec<u32>, code: usize) {
    wrapped.push(code as u32);
}

/// Counts values and returns their extremes. With `RUNS`, a step of equal codes is counted at once.
#[inline(always)]
fn count<K: BinKey, const USED: usize, const RUNS: bool, const CHECKED: bool>(
    key: K,
    values: &[K::Value],
    mut tables: [&mut [u16]; TABLES],
    wrapped: &mut Vec<u32>,
) -> K::Extremes {
    let mut found = key.no_extremes();
    let (steps, rest) = values.as_chunks::<STEP>();
    let mut equal = steps.first().is_some_and(|step| {
        let mut diff = key.no_diff();
        for chunk in step.as_chunks::<LANES>().0 {
            scan::<K, RUNS>(key, chunk, step[0], &mut found, &mut diff);
        }
        RUNS && key.is_same_code(&diff)
    });
    for (i, step) in steps.iter().enumerate() {
        simd::fetch_ahead(step);
        if equal {
            add::<true>(tables[0], key.code(step[0]), STEP as u16, wrapped);
        }
        let Some(next) = steps.get(i + 1) else {
            if !equal {
                tally::<K, USED, CHECKED>(key, step, &mut tables, wrapped);
            }
            break;
        };
        // Copied for each step. A borrowed accumulator may end up in memory: the same source took
        // 0.55 or 1.7 ns a value, depending on which kinds of library were linked.
        let (mut here, mut diff) = (found, key.no_diff());
        let chunks = next.as_chunks::<LANES>().0;
        if equal {
            for chunk in chunks {
                scan::<K, RUNS>(key, chunk, next[0], &mut here, &mut diff);
            }
        } else {
            for (chunk, counted) in chunks.iter().zip(step.as_chunks::<LANES>().0) {
                scan::<K, RUNS>(key, chunk, next[0], &mut here, &mut diff);
                tally::<K, USED, CHECKED>(key, counted, &mut tables, wrapped);
            }
        }
        found = here;
        equal = RUNS && key.is_same_code(&diff);
    }
    for &value in rest {
        key.scan(value, 0, &mut found);
        add::<CHECKED>(tables[0], key.code(value), 1, wrapped);
    }
    found
}

/// Adds values to the extremes and, with `RUNS`, their differences from `first`.
#[inline(always)]
fn scan<K: BinKey, const RUNS: bool>(
    key: K,
    values: &[K::Value; LANES],
    first: K::Value,
    found: &mut K::Extremes,
    diff: &mut K::Diff,
) {
    for (i, &value) in values.iter().enumerate() {
        key.scan(value, i, found);
        if RUNS {
            key.compare(value, first, i, diff);
        }
    }
}

/// Counts a block.
///
/// A checked count lists every counter that wrapped. An unchecked one lists those of steps of equal
/// codes only; the sum of all counters shows afterwards whether others wrapped.
#[inline(always)]
pub(super) fn count_block<K: BinKey>(
    key: K,
    block: &[K::Value],
    tables: [&mut [u16]; TABLES],
    wrapped: &mut Vec<u32>,
    mode: Mode,
) -> K::Extremes {
    match (mode.repeats, mode.checked) {
        (true, true) => count::<K, TABLES, true, true>(key, block, tables, wrapped),
        (true, false) => count::<K, TABLES, true, false>(key, block, tables, wrapped),
        (false, true) => count::<K, 1, false, true>(key, block, tables, wrapped),
        (false, false) => count::<K, 1, false, false>(key, block, tables, wrapped),
    }
}
