//! The hot loop: values to codes, codes to counters, extremes on the way.
//!
//! Values are taken in steps of 128. While the counters of one step are incremented, one after
//! another, the extremes of the next are found in vector operations: in turns of 16 values, so that
//! neither kind of work waits for the other. A step of equal codes is counted at once.
//!
//! Equal neighbours would wait for each other's increment: a ReLU makes plenty of zeros, a mask has
//! but two values. A glance at each block tells, and then four tables take turns.

use std::ops::Range;

use crate::{
    float::{BLOCK, Element, Layout},
    simd,
};

/// Values that are looked at together: two vectors of `f32`.
const LANES: usize = 16;

/// Values that are looked at before they are counted.
const STEP: usize = 128;

/// Tables that take turns when codes repeat.
const WAYS: usize = 4;

/// Counters between two tables: at a distance of whole pages the counters of one code would be taken
/// for the same by the processor's store buffer, and wait for each other all the same.
const GAP: usize = 272;

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
        self.zeros += other.zeros;
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

    /// Codes of both signs.
    pub(super) fn codes(self) -> usize {
        (2 * self.octaves) << self.mantissa_bits
    }

    /// Whether the codes are the values' own bits.
    pub(super) fn is_bits<T: Element>(self) -> bool {
        self.mantissa_bits == T::ALL_MANTISSA_BITS && self.octaves == T::OCTAVES
    }
}

/// Counters by code, of 16 bits: they halve what counting needs of the first-level cache. A counter
/// that is full is noted, and begins again.
pub(super) struct Tables {
    counters: Vec<u16>, // all zero between uses
    codes: usize,       // of one table
    ways: usize,        // tables in use
    full: Vec<u32>,     // codes, once for each 2^16 that their counters left out
}

/// What a counter leaves out when it is full.
pub(super) const FULL: u64 = 1 << 16;

impl Tables {
    pub(super) const fn new() -> Self {
        Self { counters: Vec::new(), codes: 0, ways: 1, full: Vec::new() }
    }

    /// Makes room for a scheme.
    pub(super) fn prepare(&mut self, scheme: Scheme) {
        let size = WAYS * (scheme.codes() + GAP);
        if self.counters.len() < size {
            self.counters = vec![0; size];
        }
        (self.codes, self.ways) = (scheme.codes(), 1);
    }

    /// Counts a block of at most [`BLOCK`] values and finds its extremes.
    pub(super) fn count<T: Element>(&mut self, block: &[T], scheme: Scheme, seen: &mut Summary) {
        if let Some(bits) = T::bits(block).filter(|_| scheme.is_bits::<T>()) {
            if let Some(ends) = simd::dispatch(CountBits { bits, tables: self }) {
                seen.widen::<T>(ends);
            }
            return;
        }
        let shift = 23 - scheme.mantissa_bits;
        let mut buffer = [0.0; BLOCK];
        let values = T::as_f32(block).unwrap_or_else(|| {
            let out = &mut buffer[..block.len()];
            simd::dispatch(Widen { block, out });
            out
        });
        seen.join(&simd::dispatch(CountFloats { values, shift, tables: self }));
    }

    /// Takes out the count of a code.
    pub(super) fn take(&mut self, code: usize) -> u64 {
        let mut sum = 0;
        self.full.retain(|&full| {
            let other = full as usize != code;
            sum += if other { 0 } else { FULL };
            other
        });
        for way in 0..self.ways {
            sum += u64::from(std::mem::take(&mut self.counters[way * (self.codes + GAP) + code]));
        }
        sum
    }

    /// The sum of the counters of some codes, without what [`take_full`](Self::take_full) tells.
    pub(super) fn sum(&self, codes: Range<usize>) -> u64 {
        let tables = (0..self.ways).map(|way| way * (self.codes + GAP));
        let counters = tables.map(|first| &self.counters[first + codes.start..first + codes.end]);
        counters.map(|counters| u64::from(simd::dispatch(Sum { counters }))).sum()
    }

    /// Clears the counters of some codes, after each table's were handed to `add`.
    pub(super) fn take_range(&mut self, codes: Range<usize>, mut add: impl FnMut(&[u16])) {
        for first in (0..self.ways).map(|way| way * (self.codes + GAP)) {
            let counters = &mut self.counters[first + codes.start..first + codes.end];
            add(counters);
            counters.fill(0);
        }
    }

    /// Takes out the codes whose counters were full, once for each time.
    pub(super) fn take_full(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.full)
    }

    /// The tables as such, each with a known number of counters, and where full ones are noted.
    #[inline(always)]
    fn split<const CODES: usize>(&mut self) -> ([&mut [u16]; WAYS], &mut Vec<u32>) {
        let (ways, full) = self.parts();
        (ways.map(|way| &mut way[..CODES]), full)
    }

    /// The tables as such.
    #[inline(always)]
    fn parts(&mut self) -> ([&mut [u16]; WAYS], &mut Vec<u32>) {
        let (size, mut rest) = (self.codes + GAP, &mut self.counters[..]);
        let ways = std::array::from_fn(|_| {
            let (way, others) = std::mem::take(&mut rest).split_at_mut(size);
            rest = others;
            way
        });
        (ways, &mut self.full)
    }
}

/// The sum of some counters, of a piece of fewer than 2^32 elements.
struct Sum<'a> {
    counters: &'a [u16],
}

impl simd::Work for Sum<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        self.counters.iter().fold(0, |sum, &n| sum.wrapping_add(n.into()))
    }
}

/// How values are read.
trait Kind: Copy {
    type Value: Copy;
    /// What is found of values that were looked at, one a lane.
    type Found: Copy;
    /// How the bits of some values differ from those of one, one a lane.
    type Differ: Copy;

    fn nothing(self) -> Self::Found;
    fn equal(self) -> Self::Differ;
    fn look(self, value: Self::Value, lane: usize, found: &mut Self::Found);
    fn compare(self, value: Self::Value, with: Self::Value, lane: usize, differ: &mut Self::Differ);
    /// Whether none differs in its code.
    fn is_equal(self, differ: &Self::Differ) -> bool;
    fn code(self, value: Self::Value) -> usize;
    fn codes(self, four: &[Self::Value; 4]) -> [usize; 4];
    /// How often a value has the code of the next, or of the next but one.
    fn equals(self, sample: &[Self::Value; SAMPLE + 2]) -> u32;
}

/// Values by the codes of the layout.
#[derive(Clone, Copy)]
struct Floats {
    shift: u32,
    mask: usize, // codes less one: spares checking the bounds of the table
}

#[derive(Clone, Copy)]
struct FoundFloats {
    min: [f32; LANES],
    max: [f32; LANES],
    zeros: [u32; LANES],
}

impl Kind for Floats {
    type Value = f32;
    type Found = FoundFloats;
    type Differ = [u32; LANES];

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
    fn look(self, x: f32, i: usize, found: &mut FoundFloats) {
        let FoundFloats { min, max, zeros } = found;
        min[i] = if x < min[i] { x } else { min[i] };
        max[i] = if x > max[i] { x } else { max[i] };
        zeros[i] += u32::from(x == 0.0);
    }

    #[inline(always)]
    fn compare(self, x: f32, with: f32, i: usize, differ: &mut [u32; LANES]) {
        differ[i] |= x.to_bits() ^ with.to_bits();
    }

    #[inline(always)]
    fn is_equal(self, differ: &[u32; LANES]) -> bool {
        differ.iter().fold(0, |any, bits| any | bits) >> self.shift == 0
    }

    #[inline(always)]
    fn code(self, x: f32) -> usize {
        (x.to_bits() >> self.shift) as usize & self.mask
    }

    /// Two at a time are read, as one number: of single ones the compiler would make a vector, and
    /// take it apart again.
    #[inline(always)]
    fn codes(self, four: &[f32; 4]) -> [usize; 4] {
        let pair = |i: usize| u64::from(four[i].to_bits()) | u64::from(four[i + 1].to_bits()) << 32;
        let (a, b) = (pair(0), pair(2));
        let code = |bits: u32| (bits >> self.shift) as usize & self.mask;
        [code(a as u32), code((a >> 32) as u32), code(b as u32), code((b >> 32) as u32)]
    }

    #[inline(always)]
    fn equals(self, sample: &[f32; SAMPLE + 2]) -> u32 {
        let code = |i: usize| sample[i].to_bits() >> self.shift;
        let equal = |i: usize, j: usize| u32::from(code(i) == code(j));
        (0..SAMPLE).map(|i| equal(i, i + 1) + equal(i, i + 2)).sum()
    }
}

/// 16-bit floats by their own bits.
#[derive(Clone, Copy)]
struct Bits;

#[derive(Clone, Copy)]
struct FoundBits {
    min: [i16; LANES],
    max: [i16; LANES],
}

/// As whole numbers, with the magnitude of negative ones turned round, floats are in order.
#[inline(always)]
fn turn(bits: u16) -> i16 {
    bits as i16 ^ ((bits as i16 >> 15) & 0x7fff)
}

impl Kind for Bits {
    type Value = u16;
    type Found = FoundBits;
    type Differ = [u16; LANES];

    #[inline(always)]
    fn nothing(self) -> FoundBits {
        FoundBits { min: [i16::MAX; LANES], max: [i16::MIN; LANES] }
    }

    #[inline(always)]
    fn equal(self) -> [u16; LANES] {
        [0; LANES]
    }

    #[inline(always)]
    fn look(self, bits: u16, i: usize, found: &mut FoundBits) {
        found.min[i] = found.min[i].min(turn(bits));
        found.max[i] = found.max[i].max(turn(bits));
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
    fn code(self, bits: u16) -> usize {
        bits.into()
    }

    #[inline(always)]
    fn codes(self, four: &[u16; 4]) -> [usize; 4] {
        four.map(usize::from)
    }

    #[inline(always)]
    fn equals(self, sample: &[u16; SAMPLE + 2]) -> u32 {
        let equal = |i: usize, j: usize| u16::from(sample[i] == sample[j]);
        (0..SAMPLE).map(|i| equal(i, i + 1) + equal(i, i + 2)).sum::<u16>().into()
    }
}

/// Increments the counters of some values.
#[inline(always)]
fn tally<K: Kind, const WAYS_USED: usize>(
    kind: K,
    values: &[K::Value],
    ways: &mut [&mut [u16]; WAYS],
    full: &mut Vec<u32>,
) {
    for four in values.as_chunks::<4>().0 {
        for (i, code) in kind.codes(four).into_iter().enumerate() {
            add(ways[i % WAYS_USED], code, 1, full);
        }
    }
}

#[inline(always)]
fn add(counters: &mut [u16], code: usize, n: u16, full: &mut Vec<u32>) {
    let (sum, wrapped) = counters[code].overflowing_add(n);
    counters[code] = sum;
    if wrapped {
        note(full, code);
    }
}

#[cold]
#[inline(never)]
fn note(full: &mut Vec<u32>, code: usize) {
    full.push(code as u32);
}

/// Counts values, and tells what was found of them.
#[inline(always)]
fn count<K: Kind, const WAYS_USED: usize>(
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
            glance(kind, chunk, step[0], &mut found, &mut differ);
        }
        kind.is_equal(&differ)
    });
    for (i, step) in steps.iter().enumerate() {
        simd::fetch_ahead(step);
        if equal {
            add(ways[0], kind.code(step[0]), STEP as u16, full);
        }
        let Some(next) = steps.get(i + 1) else {
            if !equal {
                tally::<K, WAYS_USED>(kind, step, &mut ways, full);
            }
            break;
        };
        // Of its own for each step: else the compiler would keep it in memory.
        let (mut here, mut differ) = (found, kind.equal());
        let chunks = next.as_chunks::<LANES>().0;
        if equal {
            for chunk in chunks {
                glance(kind, chunk, next[0], &mut here, &mut differ);
            }
        } else {
            for (chunk, counted) in chunks.iter().zip(step.as_chunks::<LANES>().0) {
                glance(kind, chunk, next[0], &mut here, &mut differ);
                tally::<K, WAYS_USED>(kind, counted, &mut ways, full);
            }
        }
        found = here;
        equal = kind.is_equal(&differ);
    }
    for &value in rest {
        kind.look(value, 0, &mut found);
        add(ways[0], kind.code(value), 1, full);
    }
    found
}

/// Looks at values, and compares them with another.
#[inline(always)]
fn glance<K: Kind>(
    kind: K,
    values: &[K::Value; LANES],
    first: K::Value,
    found: &mut K::Found,
    differ: &mut K::Differ,
) {
    for (i, &value) in values.iter().enumerate() {
        kind.look(value, i, found);
        kind.compare(value, first, i, differ);
    }
}

/// Values of a block that are looked at for repetitions, in either of two places; two more follow.
const SAMPLE: usize = 64;

/// Whether so many codes of a block equal one of the two before that increments would wait: five in
/// a hundred of a sample. Of N(0, 1) it is one in a hundred even at 5 mantissa bits. The sample is from
/// the part that memory was asked for before.
#[inline(always)]
fn repeats<K: Kind>(kind: K, block: &[K::Value]) -> bool {
    const MOST: u32 = 12;
    let sample = |at: usize| block[at..].first_chunk().map_or(0, |sample| kind.equals(sample));
    sample(0) + sample(block.len() / 4) > MOST
}

/// Counts a block with one table or, when codes repeat, with all.
#[inline(always)]
fn count_block<K: Kind>(
    kind: K,
    block: &[K::Value],
    ways: [&mut [u16]; WAYS],
    full: &mut Vec<u32>,
    repeating: bool,
) -> K::Found {
    if repeating {
        count::<K, WAYS>(kind, block, ways, full)
    } else {
        count::<K, 1>(kind, block, ways, full)
    }
}

/// Counting by the codes of the layout.
struct CountFloats<'a> {
    values: &'a [f32],
    shift: u32,
    tables: &'a mut Tables,
}

impl simd::Work for CountFloats<'_> {
    type Output = Summary;

    #[inline(always)]
    fn run(self) -> Summary {
        let Self { values, shift, tables } = self;
        let mask = tables.codes - 1;
        let repeating = repeats(Floats { shift, mask }, values);
        if repeating {
            tables.ways = WAYS;
        }
        // A number that is known here spares an instruction for each value.
        let found = if shift == USUAL_SHIFT {
            const CODES: usize = 1 << (32 - USUAL_SHIFT);
            let (ways, full) = tables.split::<CODES>();
            let kind = Floats { shift: USUAL_SHIFT, mask: CODES - 1 };
            count_block(kind, values, ways, full, repeating)
        } else {
            let (ways, full) = tables.parts();
            let ways = ways.map(|way| &mut way[..=mask]);
            count_block(Floats { shift, mask }, values, ways, full, repeating)
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

/// Conversion to `f32`.
struct Widen<'a, T> {
    block: &'a [T],
    out: &'a mut [f32],
}

impl<T: Element> simd::Work for Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (values, out) in self.block.chunks(STEP).zip(self.out.chunks_mut(STEP)) {
            simd::fetch_ahead(values);
            for (x, out) in values.iter().zip(out) {
                *out = x.to_f32();
            }
        }
    }
}

/// Counting of 16-bit floats by their own bits. Returns those of the extremes.
struct CountBits<'a> {
    bits: &'a [u16],
    tables: &'a mut Tables,
}

impl simd::Work for CountBits<'_> {
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
        let (mut min, mut max) = (i16::MAX, i16::MIN);
        for i in 0..LANES {
            min = min.min(found.min[i]);
            max = max.max(found.max[i]);
        }
        (!bits.is_empty()).then(|| (turn(min as u16) as u16, turn(max as u16) as u16))
    }
}

/// The smallest and the largest value, −0 as 0; `None` if there is none, or one is not finite.
pub(crate) fn finite_extremes(values: &[f32]) -> Option<(f32, f32)> {
    simd::dispatch(FiniteExtremes { values })
}

struct FiniteExtremes<'a> {
    values: &'a [f32],
}

impl simd::Work for FiniteExtremes<'_> {
    type Output = Option<(f32, f32)>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let mut odd = [false; LANES];
        let (chunks, rest) = self.values.as_chunks::<LANES>();
        for chunk in chunks {
            for (i, &x) in chunk.iter().enumerate() {
                min[i] = if x < min[i] { x } else { min[i] };
                max[i] = if x > max[i] { x } else { max[i] };
                odd[i] |= x - x != 0.0; // NaN, or of infinities
            }
        }
        let mut seen = Summary::new();
        for i in 0..LANES {
            seen.min = if min[i] < seen.min { min[i] } else { seen.min };
            seen.max = if max[i] > seen.max { max[i] } else { seen.max };
        }
        for &x in rest {
            seen.add(x);
            odd[0] |= x - x != 0.0;
        }
        if odd.contains(&true) { None } else { seen.extremes() }
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

    type Counted = (Vec<u16>, Vec<u32>, usize, u64, u32, u32);

    fn counted<T: Element>(
        values: &[T],
        layout: Layout,
        count: impl Fn(&mut Tables, &[T], Scheme, &mut Summary),
    ) -> Counted {
        let scheme = Scheme::of::<T>(layout);
        let (mut seen, mut tables) = (Summary::new(), Tables::new());
        tables.prepare(scheme);
        for block in values.chunks(BLOCK) {
            count(&mut tables, block, scheme, &mut seen);
        }
        let Tables { counters, full, ways, .. } = tables;
        (counters, full, ways, seen.zeros, seen.min.to_bits(), seen.max.to_bits())
    }

    fn generic<T: Element>(tables: &mut Tables, block: &[T], scheme: Scheme, seen: &mut Summary) {
        if let Some(bits) = T::bits(block).filter(|_| scheme.is_bits::<T>()) {
            if let Some(ends) = (CountBits { bits, tables }).run() {
                seen.widen::<T>(ends);
            }
            return;
        }
        let mut values = vec![0.0; block.len()];
        Widen { block, out: &mut values }.run();
        let shift = 23 - scheme.mantissa_bits;
        seen.join(&CountFloats { values: &values, shift, tables }.run());
    }

    fn both_paths_agree<T: Element>(values: &[T], mantissa_bits: u32) {
        let layout = Layout::of(mantissa_bits);
        let wide = counted(values, layout, Tables::count);
        let generic = counted(values, layout, generic);
        assert!(wide == generic, "at {mantissa_bits} mantissa bits");
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
