//! How values are read when they are counted: as `f32`, or as the bits of 16-bit floats.

use std::marker::PhantomData;

use crate::{float::Element, simd};

/// Values that are looked at together: two vectors of `f32`.
pub(super) const LANES: usize = 16;

/// Places of a block that are looked at for repetitions and zeros.
pub(super) const PLACES: usize = 4;

/// Values that are looked at in each; two more follow.
pub(super) const SAMPLE: usize = 64;

/// How values are read.
pub(super) trait Kind: Copy {
    type Value: Copy;
    /// What is found of values that were looked at, one a lane.
    type Found: Copy;
    /// How the bits of some values differ from those of one, one a lane.
    type Differ: Copy;

    /// Zeros among the values that are looked at from which taking them out is less work than
    /// counting them.
    const MANY_ZEROS: usize;

    fn nothing(self) -> Self::Found;
    fn equal(self) -> Self::Differ;
    fn look(self, value: Self::Value, lane: usize, found: &mut Self::Found);
    fn compare(self, value: Self::Value, with: Self::Value, lane: usize, differ: &mut Self::Differ);
    /// Whether none differs in its code.
    fn is_equal(self, differ: &Self::Differ) -> bool;
    fn is_zero(self, value: Self::Value) -> bool;
    fn code(self, value: Self::Value) -> usize;
    fn codes(self, four: &[Self::Value; 4]) -> [usize; 4];
    /// How often a value has the code of the next, or of the next but one.
    fn equals(self, sample: &[Self::Value; SAMPLE + 2]) -> u32;
}

/// Values by the codes of the layout. Others than `f32` are converted twice, when they are looked at
/// and when they are counted: a buffer between would share the first-level cache with the counters.
#[derive(Clone, Copy)]
pub(super) struct Floats<T> {
    shift: u32,
    mask: usize, // codes less one: spares checking the bounds of the table
    of: PhantomData<T>,
}

impl<T> Floats<T> {
    #[inline(always)]
    pub(super) fn new(shift: u32, mask: usize) -> Self {
        Self { shift, mask, of: PhantomData }
    }
}

#[derive(Clone, Copy)]
pub(super) struct FoundFloats {
    pub(super) min: [f32; LANES],
    pub(super) max: [f32; LANES],
    pub(super) zeros: [u32; LANES],
}

impl<T: Element> Kind for Floats<T> {
    type Value = T;
    type Found = FoundFloats;
    type Differ = [u32; LANES];

    const MANY_ZEROS: usize = PLACES * SAMPLE / 5;

    #[inline(always)]
    fn nothing(self) -> FoundFloats {
        let (min, max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        FoundFloats { min, max, zeros: [0; LANES] }
    }

    #[inline(always)]
    fn equal(self) -> [u32; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    fn look(self, x: T, i: usize, found: &mut FoundFloats) {
        let x = x.to_f32();
        let FoundFloats { min, max, zeros } = found;
        min[i] = if x < min[i] { x } else { min[i] };
        max[i] = if x > max[i] { x } else { max[i] };
        zeros[i] += u32::from(x == 0.0);
    }

    #[inline(always)]
    fn compare(self, x: T, with: T, i: usize, differ: &mut [u32; LANES]) {
        differ[i] |= x.to_f32().to_bits() ^ with.to_f32().to_bits();
    }

    #[inline(always)]
    fn is_equal(self, differ: &[u32; LANES]) -> bool {
        differ.iter().fold(0, |any, bits| any | bits) >> self.shift == 0
    }

    #[inline(always)]
    fn is_zero(self, x: T) -> bool {
        x.to_f32() == 0.0
    }

    #[inline(always)]
    fn code(self, x: T) -> usize {
        (x.to_f32().to_bits() >> self.shift) as usize & self.mask
    }

    /// Two at a time are read, as one number: of single ones the compiler would make a vector, and
    /// take it apart again.
    #[inline(always)]
    fn codes(self, four: &[T; 4]) -> [usize; 4] {
        let bits = four.map(|x| u64::from(x.to_f32().to_bits()));
        let (a, b) = (simd::opaque(bits[0] | bits[1] << 32), simd::opaque(bits[2] | bits[3] << 32));
        let low = |pair: u64| (pair as u32 >> self.shift) as usize & self.mask;
        let high = |pair: u64| (pair >> (32 + self.shift)) as usize & self.mask;
        [low(a), high(a), low(b), high(b)]
    }

    #[inline(always)]
    fn equals(self, sample: &[T; SAMPLE + 2]) -> u32 {
        let code = |i: usize| sample[i].to_f32().to_bits() >> self.shift;
        let equal = |i: usize, j: usize| u32::from(code(i) == code(j));
        (0..SAMPLE).map(|i| equal(i, i + 1) + equal(i, i + 2)).sum()
    }
}

/// 16-bit floats by their own bits.
#[derive(Clone, Copy)]
pub(super) struct Bits;

/// What tells the extremes of values that are read as whole numbers, with the sign as their top bit.
#[derive(Clone, Copy)]
pub(super) struct FoundBits {
    signed_max: [i16; LANES],
    min: [u16; LANES],
    max: [u16; LANES],
}

impl FoundBits {
    /// The bits of the smallest and of the largest value, of at least one; NaN lies beyond infinity.
    ///
    /// Of negative values the larger number is the smaller value, and any is larger than a positive
    /// one's: so three numbers in the order of the processor tell both ends.
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

impl Kind for Bits {
    type Value = u16;
    type Found = FoundBits;
    type Differ = [u16; LANES];

    /// Of fewer their counter would be full: they are not counted apart.
    const MANY_ZEROS: usize = PLACES * SAMPLE / 16;

    #[inline(always)]
    fn nothing(self) -> FoundBits {
        FoundBits { signed_max: [i16::MIN; LANES], min: [u16::MAX; LANES], max: [0; LANES] }
    }

    #[inline(always)]
    fn equal(self) -> [u16; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    fn look(self, bits: u16, i: usize, found: &mut FoundBits) {
        found.signed_max[i] = found.signed_max[i].max(bits as i16);
        found.min[i] = found.min[i].min(bits);
        found.max[i] = found.max[i].max(bits);
    }

    #[inline(always)]
    fn compare(self, bits: u16, with: u16, i: usize, differ: &mut [u16; LANES]) {
        differ[i] |= bits ^ with;
    }

    #[inline(always)]
    fn is_equal(self, differ: &[u16; LANES]) -> bool {
        differ.iter().fold(0, |any, bits| any | bits) == 0
    }

    #[inline(always)]
    fn is_zero(self, bits: u16) -> bool {
        bits << 1 == 0
    }

    #[inline(always)]
    fn code(self, bits: u16) -> usize {
        bits.into()
    }

    /// All four are read as one number: reading takes as long as counting.
    #[inline(always)]
    fn codes(self, four: &[u16; 4]) -> [usize; 4] {
        let word = four.iter().rev().fold(0, |word, &bits| word << 16 | u64::from(bits));
        let word = simd::opaque(word);
        [0, 16, 32, 48].map(|at| usize::from((word >> at) as u16))
    }

    #[inline(always)]
    fn equals(self, sample: &[u16; SAMPLE + 2]) -> u32 {
        let equal = |i: usize, j: usize| u16::from(sample[i] == sample[j]);
        (0..SAMPLE).map(|i| equal(i, i + 1) + equal(i, i + 2)).sum::<u16>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As whole numbers, with the magnitude of negative ones turned round, floats are in order.
    fn turn(bits: u16) -> i16 {
        bits as i16 ^ ((bits as i16 >> 15) & 0x7fff)
    }

    #[test]
    fn three_numbers_tell_the_extremes_of_any_bits() {
        let ends = [0, 1, 0x3c00, 0x7bff, 0x7c00, 0x7fff];
        let all: Vec<u16> = ends.into_iter().flat_map(|bits| [bits, bits | 0x8000]).collect();
        for chosen in 1..1u32 << all.len() {
            let mut found = Bits.nothing();
            let values = (0..all.len()).filter(|i| chosen >> i & 1 == 1).map(|i| all[i]);
            for (i, bits) in values.clone().enumerate() {
                Bits.look(bits, i % LANES, &mut found);
            }
            let expected =
                (values.clone().min_by_key(|&b| turn(b)), values.max_by_key(|&b| turn(b)));
            let (min, max) = found.extremes();
            assert_eq!((Some(min), Some(max)), expected, "of the set {chosen:b}");
        }
    }
}
