//! The loop itself: while the counters of one step are incremented, the next is looked at.

use super::{
    kinds::{Kind, LANES},
    tables::{Counter, WAYS},
};
use crate::simd;

/// Values that are looked at before they are counted.
const STEP: usize = 128;

/// Increments the counters of some values.
#[inline(always)]
fn tally<K: Kind, C: Counter, const WAYS_USED: usize>(
    kind: K,
    values: &[K::Value],
    ways: &mut [&mut [C]; WAYS],
    full: &mut Vec<u32>,
) {
    for four in values.as_chunks::<4>().0 {
        for (i, code) in kind.codes(four).into_iter().enumerate() {
            add(ways[i % WAYS_USED], code, 1, full);
        }
    }
}

#[inline(always)]
fn add<C: Counter>(counters: &mut [C], code: usize, n: u8, full: &mut Vec<u32>) {
    if counters[code].add(n) {
        note(full, code);
    }
}

#[cold]
#[inline(never)]
fn note(full: &mut Vec<u32>, code: usize) {
    full.push(code as u32);
}

/// Counts values, and tells what was found of them. Where there may be runs, steps of
/// equal codes are counted at once.
#[inline(always)]
fn count<K: Kind, C: Counter, const WAYS_USED: usize, const RUNS: bool>(
    kind: K,
    values: &[K::Value],
    mut ways: [&mut [C]; WAYS],
    full: &mut Vec<u32>,
) -> K::Found {
    let mut found = kind.nothing();
    let (steps, rest) = values.as_chunks::<STEP>();
    let mut equal = steps.first().is_some_and(|step| {
        let mut differ = kind.equal();
        for chunk in step.as_chunks::<LANES>().0 {
            glance::<K, RUNS>(kind, chunk, step[0], &mut found, &mut differ);
        }
        RUNS && kind.is_equal(&differ)
    });
    for (i, step) in steps.iter().enumerate() {
        simd::fetch_ahead(step);
        if equal {
            add(ways[0], kind.code(step[0]), STEP as u8, full);
        }
        let Some(next) = steps.get(i + 1) else {
            if !equal {
                tally::<K, C, WAYS_USED>(kind, step, &mut ways, full);
            }
            break;
        };
        // Of its own for each step: else the compiler would keep it in memory.
        let (mut here, mut differ) = (found, kind.equal());
        let chunks = next.as_chunks::<LANES>().0;
        if equal {
            for chunk in chunks {
                glance::<K, RUNS>(kind, chunk, next[0], &mut here, &mut differ);
            }
        } else {
            for (chunk, counted) in chunks.iter().zip(step.as_chunks::<LANES>().0) {
                glance::<K, RUNS>(kind, chunk, next[0], &mut here, &mut differ);
                tally::<K, C, WAYS_USED>(kind, counted, &mut ways, full);
            }
        }
        found = here;
        equal = RUNS && kind.is_equal(&differ);
    }
    for &value in rest {
        kind.look(value, 0, &mut found);
        add(ways[0], kind.code(value), 1, full);
    }
    found
}

/// Looks at values, and where there may be runs compares them with another.
#[inline(always)]
fn glance<K: Kind, const RUNS: bool>(
    kind: K,
    values: &[K::Value; LANES],
    first: K::Value,
    found: &mut K::Found,
    differ: &mut K::Differ,
) {
    for (i, &value) in values.iter().enumerate() {
        kind.look(value, i, found);
        if RUNS {
            kind.compare(value, first, i, differ);
        }
    }
}

/// Whether so many codes of a block equal one of the two before that increments would wait: five in
/// a hundred of a sample. Of N(0, 1) it is one in a hundred even at 5 mantissa bits. The sample is from
/// the part that memory was asked for before.
#[inline(always)]
pub(super) fn repeats<K: Kind>(kind: K, block: &[K::Value]) -> bool {
    const MOST: u32 = 12;
    let sample = |at: usize| block[at..].first_chunk().map_or(0, |sample| kind.equals(sample));
    sample(0) + sample(block.len() / 4) > MOST
}

/// Counts a block with one table or, when codes repeat, with all.
#[inline(always)]
pub(super) fn count_block<K: Kind, C: Counter>(
    kind: K,
    block: &[K::Value],
    ways: [&mut [C]; WAYS],
    full: &mut Vec<u32>,
    repeating: bool,
) -> K::Found {
    if repeating {
        count::<K, C, WAYS, true>(kind, block, ways, full)
    } else {
        count::<K, C, 1, false>(kind, block, ways, full)
    }
}
