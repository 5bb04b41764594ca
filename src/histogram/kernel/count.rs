//! Counting a block: picks the key, removes zeros, and runs the pipeline on the widest vectors.
//!
//! A sample of each block shows how often codes repeat. If they do, four subhistograms take turns,
//! and a step of equal codes is counted at once. Where a fifth of the sample is zeros, as after a
//! `ReLU`, the zeros are removed first: float32 with half zeros 0.466 → 0.304 ns a value.

use super::{
    code_space::CodeSpace,
    keys::{BitKey, FloatKey, LANES},
    pipeline::{Mode, count_block},
    sample::{has_many_zeros, repeats},
    scan::Summary,
    scratch::Subhistograms,
};
use crate::{
    float::{Element, Layout, WIDEN_BLOCK},
    simd,
};

impl Subhistograms {
    /// Counts a block of values and adds its extremes to `seen`. With `checked`, every counter that
    /// wraps is listed. Returns how many zeros were removed; no counter has them.
    pub(crate) fn count<T: Element>(
        &mut self,
        block: &[T],
        space: CodeSpace,
        checked: bool,
        seen: &mut Summary,
    ) -> u64 {
        let zeros = if let Some(bits) = T::bits(block).filter(|_| space.is_bits::<T>()) {
            self.count_bits::<T>(bits, checked, seen)
        } else {
            self.count_floats(block, space, checked, seen)
        };
        seen.add_zeros(zeros);
        zeros
    }

    fn count_bits<T: Element>(&mut self, bits: &[u16], checked: bool, seen: &mut Summary) -> u64 {
        let mut nonzero = std::mem::take(&mut self.nonzero_bits);
        let mut kept = bits;
        if has_many_zeros(BitKey, bits) {
            let len = simd::without_zero_bits(bits, &mut nonzero);
            kept = &nonzero[..len];
        }
        if let Some(ends) = simd::dispatch(CountBits { bits: kept, checked, scratch: self }) {
            seen.add_extreme_bits::<T>(ends);
        }
        let zeros = bits.len() - kept.len();
        self.nonzero_bits = nonzero;
        zeros as u64
    }

    fn count_floats<T: Element>(
        &mut self,
        block: &[T],
        space: CodeSpace,
        checked: bool,
        seen: &mut Summary,
    ) -> u64 {
        let shift = 23 - space.mantissa_bits;
        // The mask is 0 because a search for zeros makes no codes.
        if !has_many_zeros(FloatKey::new(shift, 0), block) {
            let count = CountFloats { values: block, shift, checked, scratch: self };
            seen.merge(&simd::dispatch(count));
            return 0;
        }
        let mut nonzero = std::mem::take(&mut self.nonzero);
        let (mut len, mut buffer) = (0, [0.0; WIDEN_BLOCK]);
        for part in block.chunks(WIDEN_BLOCK) {
            len += simd::without_zeros(T::widen(part, &mut buffer), &mut nonzero, len);
        }
        let count = CountFloats { values: &nonzero[..len], shift, checked, scratch: self };
        seen.merge(&simd::dispatch(count));
        self.nonzero = nonzero;
        (block.len() - len) as u64
    }
}

/// Counting by the codes of the layout.
struct CountFloats<'a, T> {
    values: &'a [T],
    shift: u32,
    checked: bool,
    scratch: &'a mut Subhistograms,
}

impl<T: Element> simd::Work for CountFloats<'_, T> {
    type Output = Summary;

    #[inline(always)]
    fn run(self) -> Summary {
        let Self { values, shift, checked, scratch } = self;
        let mask = scratch.codes - 1;
        let mode = Mode { repeats: repeats(FloatKey::new(shift, mask), values), checked };
        scratch.use_tables(mode.repeats);
        // A shift that the compiler knows saves an instruction for each value.
        let found = if shift == USUAL_SHIFT {
            const CODES: usize = 1 << (32 - USUAL_SHIFT);
            let (tables, wrapped) = scratch.split::<CODES>();
            let key = FloatKey::new(USUAL_SHIFT, CODES - 1);
            count_block(key, values, tables, wrapped, mode)
        } else {
            let (tables, wrapped) = scratch.parts();
            let tables = tables.map(|table| &mut table[..=mask]);
            count_block(FloatKey::new(shift, mask), values, tables, wrapped, mode)
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

/// The shift of 8 mantissa bits.
const USUAL_SHIFT: u32 = 23 - f32::MANTISSA_BITS;

/// Counting of 16-bit floats by their own bits. Returns the bits of the extremes.
struct CountBits<'a> {
    bits: &'a [u16],
    checked: bool,
    scratch: &'a mut Subhistograms,
}

impl simd::Work for CountBits<'_> {
    type Output = Option<(u16, u16)>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        const CODES: usize = 1 << 16;
        let Self { bits, checked, scratch } = self;
        let mode = Mode { repeats: repeats(BitKey, bits), checked };
        scratch.use_tables(mode.repeats);
        let (tables, wrapped) = scratch.split::<CODES>();
        let found = count_block(BitKey, bits, tables, wrapped, mode);
        (!bits.is_empty()).then(|| found.extremes())
    }
}

/// Whether codes of `layout` keep all bits of every finite value of the block.
pub(crate) fn drops_nothing<T: Element>(block: &[T], layout: Layout) -> bool {
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

    /// Random bits, runs of equal values, zeros of either sign.
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
        count: impl Fn(&mut Subhistograms, &[T], CodeSpace, bool, &mut Summary) -> u64,
        checked: bool,
    ) -> Counted {
        let space = CodeSpace::of::<T>(layout);
        let (mut seen, mut scratch, mut out) = (Summary::new(), Subhistograms::new(), 0);
        scratch.prepare(space);
        for block in values.chunks(WIDEN_BLOCK) {
            out += count(&mut scratch, block, space, checked, &mut seen);
        }
        let Subhistograms { counters, wrapped, used, .. } = scratch;
        let extremes = seen.extremes().map(|(min, max)| [min.to_bits(), max.to_bits()]);
        (counters, wrapped, used, seen.zeros, out, extremes)
    }

    fn generic<T: Element>(
        scratch: &mut Subhistograms,
        block: &[T],
        space: CodeSpace,
        checked: bool,
        seen: &mut Summary,
    ) -> u64 {
        let before = seen.zeros;
        if let Some(bits) = T::bits(block).filter(|_| space.is_bits::<T>()) {
            let mut nonzero = bits.to_vec();
            if has_many_zeros(BitKey, bits) {
                nonzero.retain(|&bits| bits << 1 != 0);
            }
            if let Some(ends) = (CountBits { bits: &nonzero, checked, scratch }).run() {
                seen.add_extreme_bits::<T>(ends);
            }
            seen.add_zeros((bits.len() - nonzero.len()) as u64);
            return seen.zeros - before;
        }
        let shift = 23 - space.mantissa_bits;
        if has_many_zeros(FloatKey::new(shift, 0), block) {
            let mut nonzero = T::widen(block, &mut [0.0; WIDEN_BLOCK]).to_vec();
            nonzero.retain(|&x| x != 0.0);
            seen.merge(&CountFloats { values: &nonzero, shift, checked, scratch }.run());
            let zeros = (block.len() - nonzero.len()) as u64;
            seen.add_zeros(zeros);
            return zeros;
        }
        seen.merge(&CountFloats { values: block, shift, checked, scratch }.run());
        0
    }

    fn both_paths_agree<T: Element>(values: &[T], mantissa_bits: u32) {
        let layout = Layout::of(mantissa_bits);
        for checked in [false, true] {
            let wide = counted(values, layout, Subhistograms::count, checked);
            let plain = counted(values, layout, generic, checked);
            assert!(wide == plain, "at {mantissa_bits} mantissa bits, checked: {checked}");
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
