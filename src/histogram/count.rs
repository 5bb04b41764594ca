//! The hot loop: values to codes, codes to counters, extremes on the way.
//!
//! Values are taken in steps of 128. While the counters of one step are incremented, one after
//! another, the extremes of the next are found in vector operations: in turns of 16 values, so that
//! neither kind of work waits for the other.
//!
//! Equal neighbours would wait for each other's increment: a `ReLU` makes plenty of zeros, a mask has
//! but two values. A glance at each block tells, and then four tables take turns, and a step of equal
//! codes is counted at once.

use super::{
    extremes::Summary,
    kinds::{Bits, Floats, LANES},
    steps::{count_block, repeats},
    tables::{Counter, Scheme, Tables, WAYS},
};
use crate::{
    float::{Element, Layout},
    simd,
};

impl<C: Counter> Tables<C> {
    /// Counts a block of values and finds its extremes.
    pub(super) fn count<T: Element>(&mut self, block: &[T], scheme: Scheme, seen: &mut Summary) {
        if let Some(bits) = T::bits(block).filter(|_| scheme.is_bits::<T>()) {
            if let Some(ends) = simd::dispatch(CountBits { bits, tables: self }) {
                seen.widen::<T>(ends);
            }
            return;
        }
        seen.join(&simd::dispatch(CountFloats {
            values: block,
            shift: 23 - scheme.mantissa_bits,
            tables: self,
        }));
    }
}

/// Counting by the codes of the layout.
struct CountFloats<'a, T, C> {
    values: &'a [T],
    shift: u32,
    tables: &'a mut Tables<C>,
}

impl<T: Element, C: Counter> simd::Work for CountFloats<'_, T, C> {
    type Output = Summary;

    #[inline(always)]
    fn run(self) -> Summary {
        let Self { values, shift, tables } = self;
        let mask = tables.codes - 1;
        let repeating = repeats(Floats::new(shift, mask), values);
        if repeating {
            tables.ways = WAYS;
        }
        // A number that is known here spares an instruction for each value.
        let found = if shift == USUAL_SHIFT {
            const CODES: usize = 1 << (32 - USUAL_SHIFT);
            let (ways, full) = tables.split::<CODES>();
            let kind = Floats::new(USUAL_SHIFT, CODES - 1);
            count_block(kind, values, ways, full, repeating)
        } else {
            let (ways, full) = tables.parts();
            let ways = ways.map(|way| &mut way[..=mask]);
            count_block(Floats::new(shift, mask), values, ways, full, repeating)
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
struct CountBits<'a, C> {
    bits: &'a [u16],
    tables: &'a mut Tables<C>,
}

impl<C: Counter> simd::Work for CountBits<'_, C> {
    type Output = Option<(u16, u16)>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        const CODES: usize = 1 << 16;
        let Self { bits, tables } = self;
        let repeating = repeats(Bits, bits);
        if repeating {
            tables.ways = WAYS;
        }
        let (ways, full) = tables.split::<CODES>();
        let found = count_block(Bits, bits, ways, full, repeating);
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
    use crate::{float::BLOCK, simd::Work};

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

    type Counted<C> = (Vec<C>, Vec<u32>, usize, u64, u32, u32);

    fn counted<T: Element, C: Counter>(
        values: &[T],
        layout: Layout,
        count: impl Fn(&mut Tables<C>, &[T], Scheme, &mut Summary),
    ) -> Counted<C> {
        let scheme = Scheme::of::<T>(layout);
        let (mut seen, mut tables) = (Summary::new(), Tables::new());
        tables.prepare(scheme);
        for block in values.chunks(BLOCK) {
            count(&mut tables, block, scheme, &mut seen);
        }
        let Tables { counters, full, ways, .. } = tables;
        (counters, full, ways, seen.zeros, seen.min.to_bits(), seen.max.to_bits())
    }

    fn generic<T: Element, C: Counter>(
        tables: &mut Tables<C>,
        block: &[T],
        scheme: Scheme,
        seen: &mut Summary,
    ) {
        if let Some(bits) = T::bits(block).filter(|_| scheme.is_bits::<T>()) {
            if let Some(ends) = (CountBits { bits, tables }).run() {
                seen.widen::<T>(ends);
            }
            return;
        }
        let shift = 23 - scheme.mantissa_bits;
        seen.join(&CountFloats { values: block, shift, tables }.run());
    }

    fn both_paths_agree<T: Element>(values: &[T], mantissa_bits: u32) {
        let layout = Layout::of(mantissa_bits);
        let wide = counted::<T, u16>(values, layout, Tables::count);
        assert!(wide == counted(values, layout, generic), "at {mantissa_bits} mantissa bits");
        let wide = counted::<T, u8>(values, layout, Tables::count);
        assert!(wide == counted(values, layout, generic), "eight bits, at {mantissa_bits}");
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
