//! Weights in blocks: from a list of shares, each block's share of its range with the minimum
//! squared error. This search reads the values, since a block has too few for a density.
//!
//! A block is `size` values along an axis; the last one may be shorter. Sixteen consecutive blocks
//! are searched side by side, one in each lane, however they lie in memory. Their values are
//! gathered once and then visited once for each share. Every sum is added in the order of the axis,
//! so the result depends neither on threads nor on lanes.

use crate::{
    Range, Scaling,
    error::{Error, Result},
    format::{Code, Grid, IntFormat, QuantFormat, between, round_half_even},
    parallel,
    shape::Shape,
    simd,
};

/// Blocks that are searched together: sixteen `f32` fill two AVX2 registers and one cache line.
const LANES: usize = 16;
/// Values of one task, or one row of blocks if that is more.
const TASK: usize = 1 << 16;
/// Values from which a second thread is used.
const PARALLEL: usize = 1 << 13;

/// Where blocks lie, their format, and the shares of their range that are tried.
#[derive(Debug, Clone, Copy)]
pub struct BlockSearch<'a> {
    shape: Shape,
    size: usize, // at least 1
    format: IntFormat,
    scaling: Scaling,
    shares: &'a [f32],
}

impl<'a> BlockSearch<'a> {
    /// Blocks of `size` values along the channels of `shape`.
    ///
    /// Each of the `shares` of a block's range is tried; of equal errors the first one wins.
    /// Without shares, the range is that of the finite values of the block.
    ///
    /// # Errors
    /// [`Error::NotInteger`] for a floating format; [`Error::BlockSize`] for blocks without values.
    pub fn new(
        shape: Shape,
        size: usize,
        format: QuantFormat,
        scaling: Scaling,
        shares: &'a [f32],
    ) -> Result<Self> {
        let int = format.int().ok_or_else(|| Error::NotInteger(format.name()))?;
        if size == 0 {
            return Err(Error::BlockSize(0));
        }
        Ok(Self { shape, size, format: int, scaling, shares })
    }

    /// Number of blocks along the axis.
    pub fn blocks_along(&self) -> usize {
        self.shape.channels.div_ceil(self.size)
    }

    /// Number of all blocks.
    pub fn blocks(&self) -> usize {
        self.shape.outer * self.blocks_along() * self.shape.inner
    }

    /// Writes the codes of `values`, and the scale and zero point of each block in the same layout.
    /// O(values · shares).
    ///
    /// NaN and infinities do not affect a range; their codes are those of [`Grid::quantize`].
    ///
    /// # Panics
    /// Unless the slices have the lengths of the shape and its blocks.
    pub fn quantize<C: Code>(
        &self,
        values: &[f32],
        codes: &mut [C],
        scales: &mut [f32],
        zero_points: &mut [C],
    ) {
        assert_eq!(values.len(), self.shape.len(), "the shape is that of the values");
        assert_eq!(values.len(), codes.len(), "the caller allocates the output");
        assert_eq!(self.blocks(), scales.len(), "the caller allocates the output");
        assert_eq!(self.blocks(), zero_points.len(), "the caller allocates the output");
        if values.is_empty() {
            return;
        }
        let tasks = self.tasks(values, codes, scales, zero_points);
        parallel::for_each(values.len() >= PARALLEL, tasks.into_iter(), |task| {
            self.quantize_task(task);
        });
    }

    /// Where the values of a row of blocks begin. The blocks of a row lie side by side.
    fn start(&self, row: usize) -> usize {
        let Shape { channels, inner, .. } = self.shape;
        let (outer, k) = (row / self.blocks_along(), row % self.blocks_along());
        (outer * channels + k * self.size) * inner
    }

    fn tasks<'b, C>(
        &self,
        mut values: &'b [f32],
        mut codes: &'b mut [C],
        mut scales: &'b mut [f32],
        mut zero_points: &'b mut [C],
    ) -> Vec<Task<'b, C>> {
        let inner = self.shape.inner;
        let step = (TASK / (self.size.min(self.shape.channels) * inner)).max(1);
        let rows = self.shape.outer * self.blocks_along();
        let mut tasks = Vec::new();
        for first in (0..rows).step_by(step) {
            let end = rows.min(first + step);
            let (len, blocks) = (self.start(end) - self.start(first), (end - first) * inner);
            tasks.push(Task {
                first,
                values: values.split_off(..len).unwrap_or_default(),
                codes: codes.split_off_mut(..len).unwrap_or_default(),
                scales: scales.split_off_mut(..blocks).unwrap_or_default(),
                zero_points: zero_points.split_off_mut(..blocks).unwrap_or_default(),
            });
        }
        tasks
    }

    fn quantize_task<C: Code>(&self, task: Task<'_, C>) {
        let Task { first: row, values, codes, scales, zero_points } = task;
        let inner = self.shape.inner;
        let mut gathered = vec![[0.0; LANES]; self.size.min(self.shape.channels)];
        for first in (0..scales.len()).step_by(LANES) {
            let count = LANES.min(scales.len() - first);
            let mut lanes = [Lane::default(); LANES];
            for (j, lane) in lanes[..count].iter_mut().enumerate() {
                let (at, i) = (row + (first + j) / inner, (first + j) % inner);
                let k = at % self.blocks_along();
                lane.start = self.start(at) - self.start(row) + i;
                lane.len = self.size.min(self.shape.channels - k * self.size);
            }
            gather(values, inner, &lanes, &mut gathered);
            let ends = lanes.map(|lane| ends(values, inner, lane));
            let grids = simd::dispatch(Search { among: self, values: &gathered, ends });
            for (j, (lane, grid)) in lanes[..count].iter().zip(grids).enumerate() {
                scales[first + j] = grid.scale();
                zero_points[first + j] = C::from_i32(grid.zero_point());
                for n in 0..lane.len {
                    let at = lane.start + n * inner;
                    codes[at] = C::from_i32(grid.code(self.format, values[at]));
                }
            }
        }
    }

    #[inline(always)]
    fn grid(&self, (low, high): (f32, f32), share: f32) -> Grid {
        let range = Range { low: f64::from(low * share), high: f64::from(high * share) };
        QuantFormat::Int(self.format).grid(range, self.scaling)
    }
}

/// Some rows of blocks, and where their results go.
struct Task<'a, C> {
    first: usize, // row
    values: &'a [f32],
    codes: &'a mut [C],
    scales: &'a mut [f32],
    zero_points: &'a mut [C],
}

/// Where a block lies in its task; empty if there are fewer blocks than lanes.
#[derive(Clone, Copy, Default)]
struct Lane {
    start: usize,
    len: usize,
}

#[inline(always)]
fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

/// Writes the finite values of each block to its lane, and zeros, which have no error, after them.
fn gather(values: &[f32], inner: usize, lanes: &[Lane; LANES], to: &mut [[f32; LANES]]) {
    for (n, row) in to.iter_mut().enumerate() {
        for (x, lane) in row.iter_mut().zip(lanes) {
            *x = if n < lane.len { finite(values[lane.start + n * inner]) } else { 0.0 };
        }
    }
}

/// The minimum and maximum of a block, where non-finite values count as zero.
fn ends(values: &[f32], inner: usize, lane: Lane) -> (f32, f32) {
    let block = (0..lane.len).map(|n| finite(values[lane.start + n * inner]));
    let ends = |(low, high): (f32, f32), x: f32| (low.min(x), high.max(x));
    if lane.len == 0 { (0.0, 0.0) } else { block.fold((f32::INFINITY, f32::NEG_INFINITY), ends) }
}

/// The search of one block in each lane.
struct Search<'a> {
    among: &'a BlockSearch<'a>,
    values: &'a [[f32; LANES]],
    ends: [(f32, f32); LANES],
}

impl simd::Work for Search<'_> {
    type Output = [Grid; LANES];

    #[inline(always)]
    fn run(self) -> [Grid; LANES] {
        let mut best = self.ends.map(|ends| self.among.grid(ends, 1.0));
        if matches!(self.among.shares, [] | [1.0]) {
            return best;
        }
        let mut lowest = [f64::INFINITY; LANES];
        for &share in self.among.shares {
            let grids = self.ends.map(|ends| self.among.grid(ends, share));
            let errors = squared_errors(self.values, &grids);
            for j in 0..LANES {
                if errors[j] < lowest[j] {
                    lowest[j] = errors[j];
                    best[j] = grids[j];
                }
            }
        }
        best
    }
}

/// The summed squared error of each lane. Differences are `f32`, like the values; squares and sums
/// are `f64`.
#[inline(always)]
fn squared_errors(values: &[[f32; LANES]], grids: &[Grid; LANES]) -> [f64; LANES] {
    let scale = grids.map(Grid::scale);
    let low = grids.map(|grid| grid.ends().0 as f32);
    let high = grids.map(|grid| grid.ends().1 as f32);
    let mut sums = [0.0; LANES];
    for row in values {
        for j in 0..LANES {
            let steps = between(row[j] / scale[j], low[j], high[j]);
            let error = f64::from(round_half_even(steps) as f32 * scale[j] - row[j]);
            sums[j] += error * error;
        }
    }
    sums
}
