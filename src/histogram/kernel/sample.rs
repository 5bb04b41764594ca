//! A sample of each block decides how it is counted: whether codes repeat, and whether zeros are
//! worth removing first.

use super::keys::{BinKey, PLACES, SAMPLE};

/// Whether the comparisons of each sampled code with the two after it find more than 5 % equal.
///
/// An increment waits for the previous increment of the same counter, so repeated codes need
/// several subhistograms. N(0, 1) repeats 1 % of its codes even at 5 mantissa bits; a mask, runs of
/// one value and the blank part of an image repeat far more than 5 %.
#[inline(always)]
pub(super) fn repeats<K: BinKey>(key: K, block: &[K::Value]) -> bool {
    const MOST: u32 = (2 * PLACES * SAMPLE / 20) as u32;
    let sample = |at: usize| block[at..].first_chunk().map_or(0, |sample| key.repeats(sample));
    places(block).map(sample).sum::<u32>() > MOST
}

/// Whether the same sample has so many zeros that removing them is less work than counting them.
pub(super) fn has_many_zeros<K: BinKey>(key: K, block: &[K::Value]) -> bool {
    let zeros = |at: usize| {
        let sample = block[at..].first_chunk::<SAMPLE>();
        sample.map_or(0, |sample| sample.iter().filter(|&&x| key.is_zero(x)).count())
    };
    places(block).map(zeros).sum::<usize>() >= K::MANY_ZEROS
}

#[inline(always)]
fn places<T>(block: &[T]) -> impl Iterator<Item = usize> {
    let part = block.len() / PLACES;
    (0..PLACES).map(move |i| i * part)
}
