//! The hot loop: values to codes, codes to counters, extremes on the way.
//!
//! Each step first writes the codes of 128 values into a buffer, in operations that can be
//! vectorised, and then increments their counters. Value by value the loop takes a quarter
//! longer: vector and scalar work wait for each other.
//!
//! Equal neighbours would wait for each other's increment. So even and odd elements have tables
//! of their own; zeros, of which a `ReLU` makes plenty, have a counter for each lane; and a step
//! of equal values is counted at once.

use crate::{
    float::{Element, Layout},
    simd,
};

/// Counters for zeros, behind those of the codes.
pub(super) const ZERO_LANES: usize = 16;

/// Elements whose codes are worked out before they are counted.
const STEP: usize = 128;

/// What a pass over values finds. The extremes are those of the finite values only if there are no
/// infinities.
pub(super) struct Summary {
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) zeros: u64,
}

impl Summary {
    pub(super) fn new() -> Self {
        Self { min: f32::INFINITY, max: f32::NEG_INFINITY, zeros: 0 }
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The smallest and the largest value, −0 as 0.
    pub(super) fn extremes(&self) -> Option<(f32, f32)> {
        (self.min <= self.max).then_some((self.min + 0.0, self.max + 0.0))
    }

    /// Takes in the bits of two extremes; in the order of bits NaN lies beyond infinity.
    fn widen<T: Element>(&mut self, (min, max): (u16, u16)) {
        let value = |bits| {
            let x = T::of_bits(bits).to_f32();
            if x.is_nan() { f32::INFINITY.copysign(x) } else { x }
        };
        self.min = self.min.min(value(min));
        self.max = self.max.max(value(max));
    }

    #[inline(always)]
    pub(super) fn add(&mut self, x: f32) {
        // Comparisons with NaN are false, so NaN is passed over.
        self.min = if x < self.min { x } else { self.min };
        self.max = if x > self.max { x } else { self.max };
        self.zeros += u64::from(x == 0.0);
    }
}

/// What the codes of a type are: the layout's, or, for 16-bit types at their own resolution,
/// simply their bits.
#[derive(Clone, Copy)]
pub(super) struct Scheme {
    /// bins of an octave, as a power of two
    pub(super) mantissa_bits: u32,
    /// octaves of one sign, that of the non-finite values included
    pub(super) octaves: usize,
    /// the layout's number of the lowest octave
    pub(super) offset: usize,
}

impl Scheme {
    pub(super) fn of<T: Element>(layout: Layout) -> Self {
        let mantissa_bits = layout.mantissa_bits();
        let own = T::bits(&[]).is_some() && mantissa_bits == T::ALL_MANTISSA_BITS;
        if own && T::OCTAVES < Layout::OCTAVES {
            // The lowest octave of a smaller type holds its subnormals, which lie lower down.
            let offset = (Layout::OCTAVES - T::OCTAVES) / 2;
            return Self { mantissa_bits, octaves: T::OCTAVES, offset };
        }
        Self { mantissa_bits, octaves: Layout::OCTAVES, offset: 0 }
    }

    /// Codes of both signs; those of zeros come behind them.
    pub(super) fn codes(self) -> usize {
        (2 * self.octaves) << self.mantissa_bits
    }

    /// Whether the codes are the values' own bits.
    fn is_bits<T: Element>(self) -> bool {
        self.mantissa_bits == T::ALL_MANTISSA_BITS && self.octaves == T::OCTAVES
    }
}

/// Counters by code: two tables, each with a power of two of counters, more than there are codes.
pub(super) struct Tables<'a> {
    pub(super) even: &'a mut [u32],
    pub(super) odd: &'a mut [u32],
}

impl Tables<'_> {
    /// Counts a block and finds its extremes.
    pub(super) fn count<T: Element>(&mut self, block: &[T], scheme: Scheme, seen: &mut Summary) {
        match T::bits(block) {
            Some(bits) if scheme.is_bits::<T>() => {
                if let Some(ends) = simd::dispatch(CountBits { bits, scheme, tables: self }) {
                    seen.widen::<T>(ends);
                }
            }
            _ => simd::dispatch(Count { block, scheme, tables: self, seen }),
        }
    }

    /// Takes out the zeros.
    pub(super) fn take_zeros(&mut self, scheme: Scheme) -> u64 {
        let lanes = scheme.codes()..scheme.codes() + ZERO_LANES;
        let both = self.even[lanes.clone()].iter_mut().chain(&mut self.odd[lanes]);
        both.map(|counter| u64::from(std::mem::take(counter))).sum()
    }

    /// Increments the counters of `codes`, or that of the only code there is.
    #[inline(always)]
    fn add(&mut self, codes: &[u32], only: Option<u32>) {
        if let Some(code) = only {
            self.even[code as usize] += codes.len() as u32;
            return;
        }
        let mask = self.even.len() - 1;
        let (even, odd) = (&mut self.even[..=mask], &mut self.odd[..=mask]);
        let (fours, rest) = codes.as_chunks::<4>();
        for four in fours {
            even[four[0] as usize & mask] += 1;
            odd[four[1] as usize & mask] += 1;
            even[four[2] as usize & mask] += 1;
            odd[four[3] as usize & mask] += 1;
        }
        for &code in rest {
            even[code as usize & mask] += 1;
        }
    }
}

/// Counting by the codes of the layout.
struct Count<'a, 'b, T> {
    block: &'a [T],
    scheme: Scheme,
    tables: &'a mut Tables<'b>,
    seen: &'a mut Summary,
}

impl<T: Element> simd::Work for Count<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { block, scheme, tables, seen } = self;
        let mut lanes = Lanes {
            shift: 23 - scheme.mantissa_bits,
            zero: scheme.codes() as u32,
            min: [f32::INFINITY; ZERO_LANES],
            max: [f32::NEG_INFINITY; ZERO_LANES],
        };
        let mut codes = [0; STEP];
        let (steps, rest) = block.as_chunks::<STEP>();
        for step in steps {
            simd::fetch_ahead(step);
            // A fixed length makes this a tenth faster.
            let only = lanes.encode(step, &mut codes);
            tables.add(&codes, only);
        }
        if !rest.is_empty() {
            let codes = &mut codes[..rest.len()];
            let only = lanes.encode(rest, codes);
            tables.add(codes, only);
        }
        for i in 0..ZERO_LANES {
            seen.min = if lanes.min[i] < seen.min { lanes.min[i] } else { seen.min };
            seen.max = if lanes.max[i] > seen.max { lanes.max[i] } else { seen.max };
        }
    }
}

/// Extremes, one a lane, and how codes are made.
struct Lanes<X> {
    shift: u32,
    zero: u32,
    min: [X; ZERO_LANES],
    max: [X; ZERO_LANES],
}

impl Lanes<f32> {
    /// Writes the codes of some values, and returns their code if they have but one.
    #[inline(always)]
    fn encode<T: Element>(&mut self, values: &[T], codes: &mut [u32]) -> Option<u32> {
        let Self { shift, zero, min, max } = self;
        let first = values[0].to_f32().to_bits() >> *shift;
        let mut differ = [0; ZERO_LANES];
        let (values, rest) = values.as_chunks::<ZERO_LANES>();
        let (codes, rest_codes) = codes.as_chunks_mut::<ZERO_LANES>();
        for (values, codes) in values.iter().zip(codes) {
            for i in 0..ZERO_LANES {
                let x = values[i].to_f32();
                min[i] = if x < min[i] { x } else { min[i] };
                max[i] = if x > max[i] { x } else { max[i] };
                let code = x.to_bits() >> *shift;
                codes[i] = if x.to_bits() << 1 == 0 { *zero + i as u32 } else { code };
                differ[i] |= codes[i] ^ first;
            }
        }
        for (i, (x, out)) in rest.iter().zip(rest_codes).enumerate() {
            let x = x.to_f32();
            min[i] = if x < min[i] { x } else { min[i] };
            max[i] = if x > max[i] { x } else { max[i] };
            let code = x.to_bits() >> *shift;
            *out = if x.to_bits() << 1 == 0 { *zero + i as u32 } else { code };
            differ[i] |= *out ^ first;
        }
        all_zero(differ).then_some(first)
    }
}

impl Lanes<i16> {
    /// As whole numbers, with the magnitude of negative ones turned round, floats are in order.
    #[inline(always)]
    fn turn(bits: u16) -> i16 {
        bits as i16 ^ ((bits as i16 >> 15) & 0x7fff)
    }

    /// The same for floats that are their own codes.
    #[inline(always)]
    fn encode(&mut self, values: &[u16], codes: &mut [u32]) -> Option<u32> {
        let Self { zero, mut min, mut max, .. } = *self;
        let first = u32::from(values[0]);
        let mut differ = [0; ZERO_LANES];
        let (chunks, rest) = values.as_chunks::<ZERO_LANES>();
        let (codes, rest_codes) = codes.as_chunks_mut::<ZERO_LANES>();
        for (values, codes) in chunks.iter().zip(codes) {
            for i in 0..ZERO_LANES {
                min[i] = min[i].min(Self::turn(values[i]));
                max[i] = max[i].max(Self::turn(values[i]));
            }
            for i in 0..ZERO_LANES {
                let code = u32::from(values[i]);
                codes[i] = if code.trailing_zeros() >= 15 { zero + i as u32 } else { code };
                differ[i] |= codes[i] ^ first;
            }
        }
        for (i, (&bits, out)) in rest.iter().zip(rest_codes).enumerate() {
            min[i] = min[i].min(Self::turn(bits));
            max[i] = max[i].max(Self::turn(bits));
            let code = u32::from(bits);
            *out = if code.trailing_zeros() >= 15 { zero + i as u32 } else { code };
            differ[i] |= *out ^ first;
        }
        (self.min, self.max) = (min, max);
        all_zero(differ).then_some(first)
    }
}

#[inline(always)]
fn all_zero(lanes: [u32; ZERO_LANES]) -> bool {
    let mut any = 0;
    for lane in lanes {
        any |= lane;
    }
    any == 0
}

/// Counting of 16-bit floats by their own bits. Returns those of the extremes.
struct CountBits<'a, 'b> {
    bits: &'a [u16],
    scheme: Scheme,
    tables: &'a mut Tables<'b>,
}

impl simd::Work for CountBits<'_, '_> {
    type Output = Option<(u16, u16)>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self { bits, scheme, tables } = self;
        let zero = scheme.codes() as u32;
        let (min, max) = ([i16::MAX; ZERO_LANES], [i16::MIN; ZERO_LANES]);
        let mut lanes = Lanes { shift: 0, zero, min, max };
        let mut codes = [0; STEP];
        // Of a fixed length here, the compiler would unroll everything, and vectorise nothing.
        for step in bits.chunks(STEP) {
            simd::fetch_ahead(step);
            let codes = &mut codes[..step.len()];
            let only = lanes.encode(step, codes);
            tables.add(codes, only);
        }
        let (mut min, mut max) = (i16::MAX, i16::MIN);
        for i in 0..ZERO_LANES {
            min = if lanes.min[i] < min { lanes.min[i] } else { min };
            max = if lanes.max[i] > max { lanes.max[i] } else { max };
        }
        if bits.is_empty() {
            return None;
        }
        Some((Lanes::turn(min as u16) as u16, Lanes::turn(max as u16) as u16))
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

    fn tables<T: Element>(
        values: &[T],
        layout: Layout,
        count: impl Fn(&mut Tables, &[T], Scheme, &mut Summary),
    ) -> (Vec<u32>, u64, u32, u32) {
        let scheme = Scheme::of::<T>(layout);
        let mut both = vec![0; 4 * scheme.codes()];
        let (even, odd) = both.split_at_mut(2 * scheme.codes());
        let mut seen = Summary::new();
        let mut tables = Tables { even, odd };
        count(&mut tables, values, scheme, &mut seen);
        let zeros = tables.take_zeros(scheme);
        (both, zeros, seen.min.to_bits(), seen.max.to_bits())
    }

    #[allow(clippy::redundant_closure_for_method_calls)] // lifetimes
    fn both_paths_agree<T: Element>(values: &[T], mantissa_bits: u32) {
        let layout = Layout::of(mantissa_bits);
        let wide = tables(values, layout, |t, block, scheme, seen| t.count(block, scheme, seen));
        let generic = tables(values, layout, |tables, block, scheme, seen| match T::bits(block) {
            Some(bits) if scheme.is_bits::<T>() => {
                if let Some(ends) = (CountBits { bits, scheme, tables }).run() {
                    seen.widen::<T>(ends);
                }
            }
            _ => Count { block, scheme, tables, seen }.run(),
        });
        assert_eq!(
            (wide.1, wide.2, wide.3),
            (generic.1, generic.2, generic.3),
            "at {mantissa_bits} mantissa bits"
        );
        assert!(wide.0 == generic.0, "at {mantissa_bits} mantissa bits");
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
