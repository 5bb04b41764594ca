//! How the kernel reads a value as a bin code: from its `f32`, or from its own 16 bits.

use std::marker::PhantomData;

use crate::{float::Element, simd};

/// Values that are scanned together: two vectors of `f32`.
pub(super) const LANES: usize = 16;

/// Places of a block that are sampled for repeated codes and zeros.
pub(super) const PLACES: usize = 4;

/// Values that are sampled at each place; each is compared with the two after it.
pub(super) const SAMPLE: usize = 64;

/// How values of one type are scanned and become codes.
pub(super) trait BinKey: Copy {
    type Value: Copy;
    /// Minimum and maximum of the scanned values, by lane.
    type Extremes: Copy;
    /// The bits in which some values differ from one value, by lane.
    type Diff: Copy;

    /// Zeros in the sample from which removing zeros is less work than counting them.
    const MANY_ZEROS: usize;

    fn no_extremes(self) -> Self::Extremes;
    fn no_diff(self) -> Self::Diff;
    /// Adds a value to the extremes of its lane.
    fn scan(self, value: Self::Value, lane: usize, found: &mut Self::Extremes);
    fn compare(self, value: Self::Value, with: Self::Value, lane: usize, diff: &mut Self::Diff);
    /// Whether all compared values have the same code.
    fn is_same_code(self, diff: &Self::Diff) -> bool;
    fn is_zero(self, value: Self::Value) -> bool;
    /// The code of a value: the index of its counter in a table.
    fn code(self, value: Self::Value) -> usize;
    /// The codes of four values, as [`code`](Self::code) gives them. It is separate because the
    /// fastest instructions for several values differ by type.
    fn codes(self, four: &[Self::Value; 4]) -> [usize; 4];
    /// How often a sampled value has the code of the next value, or of the one after that.
    fn repeats(self, sample: &[Self::Value; SAMPLE + 2]) -> u32;
}

/// Values by the codes of the layout.
///
/// A `float64` is converted twice: when it is scanned and when it is counted. Converting a block
/// beforehand took 1.29 ns a value and this takes 1.08. Its 16 KB of values, 8 KB of converted ones
/// and 13 KB of counters do not fit into a first-level cache of 32 KB.
#[derive(Clone, Copy)]
pub(super) struct FloatKey<T> {
    shift: u32,
    mask: usize, // number of codes − 1: keeps the index in bounds without a check
    of: PhantomData<T>,
}

impl<T> FloatKey<T> {
    /// The mask matters only to codes as indices. Zeros are found without it, so a key that only
    /// looks for them may have the mask 0.
    #[inline(always)]
    pub(super) fn new(shift: u32, mask: usize) -> Self {
        Self { shift, mask, of: PhantomData }
    }
}

#[derive(Clone, Copy)]
pub(super) struct FloatExtremes {
    pub(super) min: [f32; LANES],
    pub(super) max: [f32; LANES],
    pub(super) zeros: [u32; LANES],
}

impl<T: Element> BinKey for FloatKey<T> {
    type Value = T;
    type Extremes = FloatExtremes;
    type Diff = [u32; LANES];

    const MANY_ZEROS: usize = PLACES * SAMPLE / 5;

    #[inline(always)]
    fn no_extremes(self) -> FloatExtremes {
        let (min, max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        FloatExtremes { min, max, zeros: [0; LANES] }
    }

    #[inline(always)]
    fn no_diff(self) -> [u32; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    fn scan(self, x: T, i: usize, found: &mut FloatExtremes) {
        let x = x.to_f32();
        let FloatExtremes { min, max, zeros } = found;
        min[i] = if x < min[i] { x } else { min[i] };
        max[i] = if x > max[i] { x } else { max[i] };
        zeros[i] += u32::from(x == 0.0);
    }

    #[inline(always)]
    fn compare(self, x: T, with: T, i: usize, diff: &mut [u32; LANES]) {
        diff[i] |= x.to_f32().to_bits() ^ with.to_f32().to_bits();
    }

    #[inline(always)]
    fn is_same_code(self, diff: &[u32; LANES]) -> bool {
        diff.iter().fold(0, |any, bits| any | bits) >> self.shift == 0
    }

    #[inline(always)]
    fn is_zero(self, x: T) -> bool {
        x.to_f32() == 0.0
    }

    #[inline(always)]
    fn code(self, x: T) -> usize {
        (x.to_f32().to_bits() >> self.shift) as usize & self.mask
    }

    /// Two values are read as one opaque word. The compiler would otherwise make a vector of the
    /// codes and take it apart again (0.51 instead of 0.29 ns a value).
    #[inline(always)]
    fn codes(self, four: &[T; 4]) -> [usize; 4] {
        let bits = four.map(|x| u64::from(x.to_f32().to_bits()));
        let (a, b) = (simd::opaque(bits[0] | bits[1] << 32), simd::opaque(bits[2] | bits[3] << 32));
        let low = |pair: u64| (pair as u32 >> self.shift) as usize & self.mask;
        let high = |pair: u64| (pair >> (32 + self.shift)) as usize & self.mask;
        [low(a), high(a), low(b), high(b)]
    }

    #[inline(always)]
    fn repeats(self, sample: &[T; SAMPLE + 2]) -> u32 {
        let code = |i: usize| sample[i].to_f32().to_bits() >> self.shift;
        let equal = |i: usize, j: usize| u32::from(code(i) == code(j));
        (0..SAMPLE).map(|i| equal(i, i + 1) + equal(i, i + 2)).sum()
    }
}

/// 16-bit floats by their own bits.
#[derive(Clone, Copy)]
pub(super) struct BitKey;

/// Three extremes of the bits as integers, which give the minimum and the maximum of the floats.
///
/// They take three operations for 16 values; turning the negative values around took five.
#[derive(Clone, Copy)]
pub(super) struct BitExtremes {
    signed_max: [i16; LANES],
    min: [u16; LANES],
    max: [u16; LANES],
}

impl BitExtremes {
    /// The bits of the minimum and the maximum of at least one value. NaN lies beyond infinity.
    ///
    /// As unsigned integers, negative floats are above all positive ones, and a larger integer is a
    /// smaller value. So the unsigned maximum is the minimum where any value is negative. The
    /// signed maximum is the maximum where any value is positive.
    #[inline(always)]
    pub(super) fn extremes(&self) -> (u16, u16) {
        let Self { signed_max, min, max } = *self;
        let signed_max = signed_max.into_iter().fold(i16::MIN, i16::max);
        let (min, max) =
            (min.into_iter().fold(u16::MAX, u16::min), max.into_iter().fold(0, u16::max));
        let negative = |bits: u16| bits >> 15 == 1;
        (
            if negative(max) { max } else { min },
            if signed_max < 0 { min } else { signed_max as u16 },
        )
    }
}

impl BinKey for BitKey {
    type Value = u16;
    type Extremes = BitExtremes;
    type Diff = [u16; LANES];

    /// Lower than for `f32`: zeros are not counted separately here, so their 16-bit counter would
    /// wrap.
    const MANY_ZEROS: usize = PLACES * SAMPLE / 16;

    #[inline(always)]
    fn no_extremes(self) -> BitExtremes {
        BitExtremes { signed_max: [i16::MIN; LANES], min: [u16::MAX; LANES], max: [0; LANES] }
    }

    #[inline(always)]
    fn no_diff(self) -> [u16; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    fn scan(self, bits: u16, i: usize, found: &mut BitExtremes) {
        found.signed_max[i] = found.signed_max[i].max(bits as i16);
        found.min[i] = found.min[i].min(bits);
        found.max[i] = found.max[i].max(bits);
    }

    #[inline(always)]
    fn compare(self, bits: u16, with: u16, i: usize, diff: &mut [u16; LANES]) {
        diff[i] |= bits ^ with;
    }

    #[inline(always)]
    fn is_same_code(self, diff: &[u16; LANES]) -> bool {
        diff.iter().fold(0, |any, bits| any | bits) == 0
    }

    #[inline(always)]
    fn is_zero(self, bits: u16) -> bool {
        bits << 1 == 0
    }

    #[inline(always)]
    fn code(self, bits: u16) -> usize {
        bits.into()
    }

    /// Four values are read as one word: a cycle has room for three memory accesses, and an
    /// increment takes two.
    #[inline(always)]
    fn codes(self, four: &[u16; 4]) -> [usize; 4] {
        let word = four.iter().rev().fold(0, |word, &bits| word << 16 | u64::from(bits));
        let word = simd::opaque(word);
        [0, 16, 32, 48].map(|at| usize::from((word >> at) as u16))
    }

    #[inline(always)]
    fn repeats(self, sample: &[u16; SAMPLE + 2]) -> u32 {
        let equal = |i: usize, j: usize| u16::from(sample[i] == sample[j]);
        (0..SAMPLE).map(|i| equal(i, i + 1) + equal(i, i + 2)).sum::<u16>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits as an integer that is ordered as the floats are.
    fn ordered(bits: u16) -> i16 {
        bits as i16 ^ ((bits as i16 >> 15) & 0x7fff)
    }

    #[test]
    fn three_integers_give_the_extremes_of_any_bits() {
        let ends = [0, 1, 0x3c00, 0x7bff, 0x7c00, 0x7fff];
        let all: Vec<u16> = ends.into_iter().flat_map(|bits| [bits, bits | 0x8000]).collect();
        for chosen in 1..1u32 << all.len() {
            let mut found = BitKey.no_extremes();
            let values = (0..all.len()).filter(|i| chosen >> i & 1 == 1).map(|i| all[i]);
            for (i, bits) in values.clone().enumerate() {
                BitKey.scan(bits, i % LANES, &mut found);
            }
            let expected =
                (values.clone().min_by_key(|&b| ordered(b)), values.max_by_key(|&b| ordered(b)));
            let (min, max) = found.extremes();
            assert_eq!((Some(min), Some(max)), expected, "of the set {chosen:b}");
        }
    }
}
