//! The hot loop: values to codes, codes to counters, extremes on the way.
//!
//! Values are taken in steps of 128. While the counters of one step are incremented, one after
//! another, the extremes of the next are found in vector operations: in turns of 16 values, so that
//! neither kind of work waits for the other.
//!
//! Equal neighbours would wait for each other's increment: a mask has but two values. A glance at each
//! block tells, and then four tables take turns, and a step of equal codes is counted at once. Zeros, of
//! which a `ReLU` makes plenty, are taken out beforehand.

use super::{
    extremes::Summary,
    kinds::{Bits, Floats, LANES},
    steps::{count_block, has_many_zeros, repeats},
    tables::{Scheme, Tables},
};
use crate::{
    float::{BLOCK, Element, Layout},
    simd,
};

impl Tables {
    /// Counts a block of values and finds its extremes; with care full counters are noted. Returns
    /// how many zeros were taken out, which the tables know nothing of.
    pub(super) fn count<T: Element>(
        &mut self,
        block: &[T],
        scheme: Scheme,
        careful: bool,
        seen: &mut Summary,
    ) -> u64 {
        let zeros = if let Some(bits) = T::bits(block).filter(|_| scheme.is_bits::<T>()) {
            self.count_bits::<T>(bits, careful, seen)
        } else {
            self.count_floats(block, scheme, careful, seen)
        };
        seen.add_zeros(zeros);
        zeros
    }

    fn count_bits<T: Element>(&mut self, bits: &[u16], careful: bool, seen: &mut Summary) -> u64 {
        let mut rest = std::mem::take(&mut self.rest_bits);
        let mut left = bits;
        if has_many_zeros(Bits, bits) {
            let len = simd::without_zero_bits(bits, &mut rest);
            left = &rest[..len];
        }
        if let Some(ends) = simd::dispatch(CountBits { bits: left, careful, tables: self }) {
            seen.widen::<T>(ends);
        }
        let zeros = bits.len() - left.len();
        self.rest_bits = rest;
        zeros as u64
    }

    fn count_floats<T: Element>(
        &mut self,
        block: &[T],
        scheme: Scheme,
        careful: bool,
        seen: &mut Summary,
    ) -> u64 {
        let shift = 23 - scheme.mantissa_bits;
        if !has_many_zeros(Floats::new(shift, 0), block) {
            let count = CountFloats { values: block, shift, careful, tables: self };
            seen.join(&simd::dispatch(count));
            return 0;
        }
        let mut rest = std::mem::take(&mut self.rest);
        let (mut len, mut buffer) = (0, [0.0; BLOCK]);
        for part in block.chunks(BLOCK) {
            len += simd::without_zeros(T::widen(part, &mut buffer), &mut rest, len);
        }
        let count = CountFloats { values: &rest[..len], shift, careful, tables: self };
        seen.join(&simd::dispatch(count));
        self.rest = rest;
        (block.len() - len) as u64
    }
}

/// Counting by the codes of the layout.
struct CountFloats<'a, T> {
    values: &'a [T],
    shift: u32,
    careful: bool,
    tables: &'a mut Tables,
}

impl<T: Element> simd::Work for CountFloats<'_, T> {
    type Output = Summary;

    #[inline(always)]
    fn run(self) -> Summary {
        let Self { values, shift, careful, tables } = self;
        let mask = tables.codes - 1;
        let how = (repeats(Floats::new(shift, mask), values), careful);
        tables.use_ways(how.0);
        // A number that is known here spares an instruction for each value.
        let found = if shift == USUAL_SHIFT {
            const CODES: usize = 1 << (32 - USUAL_SHIFT);
            let (ways, full) = tables.split::<CODES>();
            let kind = Floats::new(USUAL_SHIFT, CODES - 1);
            count_block(kind, values, ways, full, how)
        } else {
            let (ways, full) = tables.parts();
            let ways = ways.map(|way| &mut way[..=mask]);
            count_block(Floats::new(shift, mask), values, ways, full, how)
        };
        let mut seen = Summary::new();
        for i in 0..LANES {
            seen.min = if found.min[i] < seen.min { found.min[i] } else { seen.min };
            seen.max = if found.max[i] > seen.max { found.max[i] } else { seen.max };
            seen.zeros += u64::from(found.zeros[i]);
        }
        seen
    }
}

/// That of 8 mantissa bits.
const USUAL_SHIFT: u32 = 23 - f32::MANTISSA_BITS;

/// Counting of 16-bit floats by their own bits. Returns those of the extremes.
struct CountBits<'a> {
    bits: &'a [u16],
    careful: bool,
    tables: &'a mut Tables,
}

impl simd::Work for CountBits<'_> {
    type Output = Option<(u16, u16)>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        const CODES: usize = 1 << 16;
        let Self { bits, careful, tables } = self;
        let how = (repeats(Bits, bits), careful);
        tables.use_ways(how.0);
        let (ways, full) = tables.split::<CODES>();
        let found = count_block(Bits, bits, ways, full, how);
        (!bits.is_empty()).then(|| found.extremes())
    }
}

/// Whether codes of `layout` keep all bits of every finite value of the block.
pub(super) fn drops_nothing<T: Element>(block: &[T], layout: Layout) -> bool {
    layout.mantissa_bits() >= T::ALL_MANTISSA_BITS || simd::dispatch(Dropped { block, layout }) == 0
}

/// The bits of finite values that a code drops.
struct Dropped<'a, T> {
    block: &'a [T],
    layout: Layout,
}

impl<T: Element> simd::Work for Dropped<'_, T> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        let mask = (1u32 << self.layout.shift()) - 1;
        let mut bits = 0;
        for x in self.block {
            let x = x.to_f32();
            bits |= if x.abs() < f32::INFINITY { x.to_bits() } else { 0 };
        }
        bits & mask
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::simd::Work;

    /// Any bits, runs of equal ones, zeros of either sign.
    fn patterns(seed: u64, len: usize) -> Vec<u32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        let mut values: Vec<u32> = (0..len).map(|_| next()).collect();
        for start in (0..len).step_by(1000) {
            let end = (start + next() as usize % 700).min(len);
            let fill = if next() % 2 == 0 { next() } else { (next() % 2) << 31 };
            values[start..end].fill(fill);
        }
        values
    }

    type Counted = (Vec<u16>, Vec<u32>, usize, u64, u64, Option<[u32; 2]>);

    fn counted<T: Element>(
        values: &[T],
        layout: Layout,
        count: impl Fn(&mut Tables, &[T], Scheme, bool, &mut Summary) -> u64,
        careful: bool,
    ) -> Counted {
        let scheme = Scheme::of::<T>(layout);
        let (mut seen, mut tables, mut out) = (Summary::new(), Tables::new(), 0);
        tables.prepare(scheme);
        for block in values.chunks(BLOCK) {
            out += count(&mut tables, block, scheme, careful, &mut seen);
        }
        let Tables { counters, full, ways, .. } = tables;
        let extremes = seen.extremes().map(|(min, max)| [min.to_bits(), max.to_bits()]);
        (counters, full, ways, seen.zeros, out, extremes)
    }

    fn generic<T: Element>(
        tables: &mut Tables,
        block: &[T],
        scheme: Scheme,
        careful: bool,
        seen: &mut Summary,
    ) -> u64 {
        let before = seen.zeros;
        if let Some(bits) = T::bits(block).filter(|_| scheme.is_bits::<T>()) {
            let mut rest = bits.to_vec();
            if has_many_zeros(Bits, bits) {
                rest.retain(|&bits| bits << 1 != 0);
            }
            if let Some(ends) = (CountBits { bits: &rest, careful, tables }).run() {
                seen.widen::<T>(ends);
            }
            seen.add_zeros((bits.len() - rest.len()) as u64);
            return seen.zeros - before;
        }
        let shift = 23 - scheme.mantissa_bits;
        if has_many_zeros(Floats::new(shift, 0), block) {
            let mut rest = T::widen(block, &mut [0.0; BLOCK]).to_vec();
            rest.retain(|&x| x != 0.0);
            seen.join(&CountFloats { values: &rest, shift, careful, tables }.run());
            let zeros = (block.len() - rest.len()) as u64;
            seen.add_zeros(zeros);
            return zeros;
        }
        seen.join(&CountFloats { values: block, shift, careful, tables }.run());
        0
    }

    fn both_paths_agree<T: Element>(values: &[T], mantissa_bits: u32) {
        let layout = Layout::of(mantissa_bits);
        for careful in [false, true] {
            let wide = counted(values, layout, Tables::count, careful);
            let plain = counted(values, layout, generic, careful);
            assert!(wide == plain, "at {mantissa_bits} mantissa bits, careful: {careful}");
        }
    }

    #[test]
    fn wide_and_generic_code_count_alike() {
        for (seed, len) in [(1, 5000), (2, 4096), (3, 7), (4, 129), (5, 20_000)] {
            let bits = patterns(seed, len);
            let f: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            let d: Vec<f64> = f.iter().map(|&x| f64::from(x) * 1.1).collect();
            let h: Vec<f16> = bits.iter().map(|&b| f16::from_bits((b >> 16) as u16)).collect();
            let b: Vec<bf16> = bits.iter().map(|&b| bf16::from_bits((b >> 16) as u16)).collect();
            for m in [3, 5, 7, 8, 10, 12] {
                both_paths_agree(&f, m);
                both_paths_agree(&d, m);
                both_paths_agree(&h, m);
                both_paths_agree(&b, m);
            }
        }
    }
}
