//! The loop itself: while the counters of one step are incremented, the next is looked at.

use super::{
    kinds::{Kind, LANES, PLACES, SAMPLE},
    tables::WAYS,
};
use crate::simd;

/// Values that are looked at before they are counted.
const STEP: usize = 128;

/// Increments the counters of some values.
#[inline(always)]
fn tally<K: Kind, const WAYS_USED: usize, const CAREFUL: bool>(
    kind: K,
    values: &[K::Value],
    ways: &mut [&mut [u16]; WAYS],
    full: &mut Vec<u32>,
) {
    for four in values.as_chunks::<4>().0 {
        for (i, code) in kind.codes(four).into_iter().enumerate() {
            add::<CAREFUL>(ways[i % WAYS_USED], code, 1, full);
        }
    }
}

#[inline(always)]
fn add<const CAREFUL: bool>(counters: &mut [u16], code: usize, n: u16, full: &mut Vec<u32>) {
    let (sum, is_full) = counters[code].overflowing_add(n);
    counters[code] = sum;
    if CAREFUL && is_full {
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
fn count<K: Kind, const WAYS_USED: usize, const RUNS: bool, const CAREFUL: bool>(
    kind: K,
    values: &[K::Value],
    mut ways: [&mut [u16]; WAYS],
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
            add::<true>(ways[0], kind.code(step[0]), STEP as u16, full);
        }
        let Some(next) = steps.get(i + 1) else {
            if !equal {
                tally::<K, WAYS_USED, CAREFUL>(kind, step, &mut ways, full);
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
                tally::<K, WAYS_USED, CAREFUL>(kind, counted, &mut ways, full);
            }
        }
        found = here;
        equal = RUNS && kind.is_equal(&differ);
    }
    for &value in rest {
        kind.look(value, 0, &mut found);
        add::<CAREFUL>(ways[0], kind.code(value), 1, full);
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
/// a hundred of a sample. Of N(0, 1) it is one in a hundred even at 5 mantissa bits.
#[inline(always)]
pub(super) fn repeats<K: Kind>(kind: K, block: &[K::Value]) -> bool {
    const MOST: u32 = (2 * PLACES * SAMPLE / 20) as u32;
    let sample = |at: usize| block[at..].first_chunk().map_or(0, |sample| kind.equals(sample));
    places(block).map(sample).sum::<u32>() > MOST
}

/// Whether there are so many zeros in a block, by the same sample, that they are to be taken out.
pub(super) fn has_many_zeros<K: Kind>(kind: K, block: &[K::Value]) -> bool {
    let zeros = |at: usize| {
        let sample = block[at..].first_chunk::<SAMPLE>();
        sample.map_or(0, |sample| sample.iter().filter(|&&x| kind.is_zero(x)).count())
    };
    places(block).map(zeros).sum::<usize>() >= K::MANY_ZEROS
}

#[inline(always)]
fn places<T>(block: &[T]) -> impl Iterator<Item = usize> {
    let part = block.len() / PLACES;
    (0..PLACES).map(move |i| i * part)
}

/// Counts a block: with all tables where codes repeat, else with one. With care full counters are
/// noted; without, only those of steps of equal codes are, and the sum of all tells afterwards.
#[inline(always)]
pub(super) fn count_block<K: Kind>(
    kind: K,
    block: &[K::Value],
    ways: [&mut [u16]; WAYS],
    full: &mut Vec<u32>,
    (repeating, careful): (bool, bool),
) -> K::Found {
    match (repeating, careful) {
        (true, true) => count::<K, WAYS, true, true>(kind, block, ways, full),
        (true, false) => count::<K, WAYS, true, false>(kind, block, ways, full),
        (false, true) => count::<K, 1, false, true>(kind, block, ways, full),
        (false, false) => count::<K, 1, false, false>(kind, block, ways, full),
    }
}
