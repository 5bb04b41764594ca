//! Removing zeros from values. After a `ReLU` this is faster than counting each zero.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128i, __m256, _CMP_NEQ_UQ, _mm_add_epi8, _mm_add_epi16, _mm_cmpeq_epi16, _mm_cvtsi64_si128,
    _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_epi8,
    _mm_unpacklo_epi8, _mm256_cmp_ps, _mm256_cvtepu8_epi32, _mm256_movemask_ps,
    _mm256_permutevar8x32_ps, _mm256_setzero_ps,
};

use super::fetch_ahead;

/// Values that are compared and moved together.
const LANES: usize = 8;

/// Writes the values that are not ±0 to `rest` from `at` on, in order, and returns their number.
/// `rest` is lengthened as needed; its elements after them are undefined.
pub(crate) fn without_zeros(values: &[f32], rest: &mut Vec<f32>, at: usize) -> usize {
    let rest = room(rest, at, values.len());
    #[cfg(target_arch = "x86_64")]
    if super::wide_is_there() {
        #[allow(unsafe_code)]
        // SAFETY: the processor has the features that `wide` is compiled for.
        return unsafe { wide(values, rest) };
    }
    narrow(values, rest, |x| x == 0.0)
}

/// The same for the bits of 16-bit floats, from the start of `rest`.
pub(crate) fn without_zero_bits(values: &[u16], rest: &mut Vec<u16>) -> usize {
    let rest = room(rest, 0, values.len());
    #[cfg(target_arch = "x86_64")]
    if super::wide_is_there() {
        #[allow(unsafe_code)]
        // SAFETY: the processor has the features that `wide_bits` is compiled for.
        return unsafe { wide_bits(values, rest) };
    }
    narrow(values, rest, |bits| bits << 1 == 0)
}

/// Room for some values and for the lanes that are written after them.
fn room<T: Copy + Default>(rest: &mut Vec<T>, at: usize, len: usize) -> &mut [T] {
    let end = at + len + LANES;
    if rest.len() < end {
        rest.resize(end, T::default());
    }
    &mut rest[at..end]
}

/// One value at a time: each is written, and overwritten by the next if it is zero.
fn narrow<T: Copy>(values: &[T], rest: &mut [T], is_zero: impl Fn(T) -> bool) -> usize {
    values.iter().fold(0, |len, &x| {
        rest[len] = x;
        len + usize::from(!is_zero(x))
    })
}

/// Eight values at a time: a comparison finds the non-zero ones, a permutation moves them to the
/// front.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn wide(values: &[f32], rest: &mut [f32]) -> usize {
    let (chunks, last) = values.as_chunks::<LANES>();
    let mut len = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        if i % 2 == 0 {
            fetch_ahead(chunk); // the cache line of this chunk and the next
        }
        let chunk: __m256 = bytemuck::must_cast(*chunk);
        let there = _mm256_cmp_ps::<_CMP_NEQ_UQ>(chunk, _mm256_setzero_ps());
        let there = _mm256_movemask_ps(there) as u8;
        let order = _mm_cvtsi64_si128(ORDERS[usize::from(there)] as i64);
        let moved = _mm256_permutevar8x32_ps(chunk, _mm256_cvtepu8_epi32(order));
        let moved: [f32; LANES] = bytemuck::must_cast(moved);
        rest[len..][..LANES].copy_from_slice(&moved);
        len += there.count_ones() as usize;
    }
    len + narrow(last, &mut rest[len..], |x| x == 0.0)
}

/// The same for 16-bit values.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn wide_bits(values: &[u16], rest: &mut [u16]) -> usize {
    let (chunks, last) = values.as_chunks::<LANES>();
    let mut len = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        if i % 4 == 0 {
            fetch_ahead(chunk); // the cache line of this chunk and the next three
        }
        let chunk: __m128i = bytemuck::must_cast(*chunk);
        let zero = _mm_cmpeq_epi16(_mm_add_epi16(chunk, chunk), _mm_setzero_si128());
        let there = !(_mm_movemask_epi8(_mm_packs_epi16(zero, zero)) as u8);
        let order = _mm_cvtsi64_si128(ORDERS[usize::from(there)] as i64);
        // Lane k is bytes 2k and 2k + 1.
        let twice = _mm_add_epi8(order, order);
        let bytes = _mm_add_epi8(_mm_unpacklo_epi8(twice, twice), _mm_set1_epi16(0x0100));
        let moved: [u16; LANES] = bytemuck::must_cast(_mm_shuffle_epi8(chunk, bytes));
        rest[len..][..LANES].copy_from_slice(&moved);
        len += there.count_ones() as usize;
    }
    len + narrow(last, &mut rest[len..], |bits| bits << 1 == 0)
}

/// For each set of lanes, the rising numbers of its members, one byte each.
#[cfg(target_arch = "x86_64")]
static ORDERS: [u64; 256] = {
    let mut orders = [0; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut place) = (0, 0);
        while lane < LANES as u64 {
            if set >> lane & 1 == 1 {
                orders[set] |= lane << place;
                place += 8;
            }
            lane += 1;
        }
        set += 1;
    }
    orders
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Random choices of some values, in several lengths.
    fn examples<T: Copy>(choices: &[T]) -> impl Iterator<Item = Vec<T>> {
        let mut state = 7u32;
        (0..40).chain([255, 4096, 4099]).map(move |len| {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                choices[(state >> 16) as usize % choices.len()]
            };
            (0..len).map(next).collect()
        })
    }

    #[test]
    fn the_values_that_are_not_zero_are_kept_in_order() {
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let choices = [0.0, -0.0, 1.5, f32::NAN, f32::NEG_INFINITY, f32::from_bits(1), -2.0];
        for values in examples(&choices) {
            let mut rest = vec![3.0; 5];
            let expected: Vec<f32> = values.iter().copied().filter(|&x| x != 0.0).collect();
            let left = without_zeros(&values, &mut rest, 5);
            assert_eq!(bits(&rest[5..][..left]), bits(&expected));
            assert_eq!(rest[..5], [3.0; 5], "nothing before is touched");
            let left = narrow(&values, &mut rest, |x| x == 0.0);
            assert_eq!(bits(&rest[..left]), bits(&expected), "one at a time");
        }
    }

    #[test]
    fn the_bits_that_are_not_of_a_zero_are_kept_in_order() {
        for values in examples(&[0, 0x8000, 1, 0x7fff, 0x8001, 0xffff, 0x3c00]) {
            let mut rest = Vec::new();
            let expected: Vec<u16> = values.iter().copied().filter(|&x| x & 0x7fff != 0).collect();
            let left = without_zero_bits(&values, &mut rest);
            assert_eq!(rest[..left], expected);
            let left = narrow(&values, &mut rest, |bits| bits << 1 == 0);
            assert_eq!(rest[..left], expected, "one at a time");
        }
    }
}
