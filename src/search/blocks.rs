//! Weights in blocks: of some shares of a block's range, the one with the least squared error. This
//! search reads the values themselves, where the others read a density: a block has too few for one.
//!
//! A block is `size` values along an axis, the last one perhaps shorter. Sixteen blocks that follow
//! each other are searched side by side, a lane each, whichever way they lie in memory: their values
//! are gathered once and then visited once a share. Every sum is added up in the order of the axis, so
//! the result depends neither on threads nor on lanes.

use crate::{
    Range, Scaling,
    error::{Error, Result},
    format::{Code, Grid, IntFormat, QuantFormat, between, round_half_even},
    parallel,
    shape::Shape,
    simd,
};

/// Blocks that are searched together: sixteen `f32` are two registers of AVX2, and a cache line.
const LANES: usize = 16;
/// Values of one task, or one row of blocks where that is more.
const PIECE: usize = 1 << 16;
/// Below this, a second thread is not worth waking.
const PARALLEL: usize = 1 << 13;

/// Where blocks lie, what they are coded as, and which shares of their range are tried.
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
    /// Beside the whole range of a block, from its least to its largest finite value, each of the
    /// `shares` of it is tried; of equal errors the first one counts.
    ///
    /// # Errors
    /// [`Error::Integers`] for a floating format; [`Error::BlockSize`] for blocks without values.
    pub fn new(
        shape: Shape,
        size: usize,
        format: QuantFormat,
        scaling: Scaling,
        shares: &'a [f32],
    ) -> Result<Self> {
        let int = format.int().ok_or_else(|| Error::Integers(format.name()))?;
        if size == 0 {
            return Err(Error::BlockSize(0));
        }
        Ok(Self { shape, size, format: int, scaling, shares })
    }

    /// Blocks along the axis.
    pub fn along(&self) -> usize {
        self.shape.channels.div_ceil(self.size)
    }

    /// All blocks.
    pub fn blocks(&self) -> usize {
        self.shape.outer * self.along() * self.shape.inner
    }

    /// Writes the codes of `values`, and scale and zero point of each block, which lie as the values
    /// do. NaN and infinities have no say in a range; their codes are those of [`Grid::quantize`].
    ///
    /// O(values · shares).
    ///
    /// # Panics
    /// Unless the slices are as long as the shape and its blocks say.
    pub fn code<C: Code>(
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
        let pieces = self.pieces(values, codes, scales, zero_points);
        parallel::for_each(values.len() >= PARALLEL, pieces.into_iter(), |piece| {
            self.code_piece(piece);
        });
    }

    /// Where the values begin of a row of blocks: those that lie side by side.
    fn start(&self, row: usize) -> usize {
        let Shape { channels, inner, .. } = self.shape;
        let (outer, k) = (row / self.along(), row % self.along());
        (outer * channels + k * self.size) * inner
    }

    fn pieces<'b, C>(
        &self,
        mut values: &'b [f32],
        mut codes: &'b mut [C],
        mut scales: &'b mut [f32],
        mut zero_points: &'b mut [C],
    ) -> Vec<Piece<'b, C>> {
        let inner = self.shape.inner;
        let step = (PIECE / (self.size.min(self.shape.channels) * inner)).max(1);
        let rows = self.shape.outer * self.along();
        let mut pieces = Vec::new();
        for first in (0..rows).step_by(step) {
            let end = rows.min(first + step);
            let (len, blocks) = (self.start(end) - self.start(first), (end - first) * inner);
            pieces.push(Piece {
                first,
                values: values.split_off(..len).unwrap_or_default(),
                codes: codes.split_off_mut(..len).unwrap_or_default(),
                scales: scales.split_off_mut(..blocks).unwrap_or_default(),
                zero_points: zero_points.split_off_mut(..blocks).unwrap_or_default(),
            });
        }
        pieces
    }

    fn code_piece<C: Code>(&self, piece: Piece<'_, C>) {
        let Piece { first: row, values, codes, scales, zero_points } = piece;
        let inner = self.shape.inner;
        let mut gathered = vec![[0.0; LANES]; self.size.min(self.shape.channels)];
        for first in (0..scales.len()).step_by(LANES) {
            let count = LANES.min(scales.len() - first);
            let mut lanes = [Lane::default(); LANES];
            for (j, lane) in lanes[..count].iter_mut().enumerate() {
                let (at, i) = (row + (first + j) / inner, (first + j) % inner);
                let k = at % self.along();
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

/// Whole rows of blocks, and where their results go.
struct Piece<'a, C> {
    first: usize, // row
    values: &'a [f32],
    codes: &'a mut [C],
    scales: &'a mut [f32],
    zero_points: &'a mut [C],
}

/// Where a block lies in its piece; without values where there are fewer blocks than lanes.
#[derive(Clone, Copy, Default)]
struct Lane {
    start: usize,
    len: usize,
}

#[inline(always)]
fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

/// Puts the finite values of each block into its lane, and zeros, which have no error, behind them.
fn gather(values: &[f32], inner: usize, lanes: &[Lane; LANES], to: &mut [[f32; LANES]]) {
    for (n, row) in to.iter_mut().enumerate() {
        for (x, lane) in row.iter_mut().zip(lanes) {
            *x = if n < lane.len { finite(values[lane.start + n * inner]) } else { 0.0 };
        }
    }
}

/// The least and the largest value of a block, where what is not finite counts as zero.
fn ends(values: &[f32], inner: usize, lane: Lane) -> (f32, f32) {
    let block = (0..lane.len).map(|n| finite(values[lane.start + n * inner]));
    let ends = |(low, high): (f32, f32), x: f32| (low.min(x), high.max(x));
    if lane.len == 0 { (0.0, 0.0) } else { block.fold((f32::INFINITY, f32::NEG_INFINITY), ends) }
}

/// The search of one lane each.
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
        let mut least = [f64::INFINITY; LANES];
        for &share in self.among.shares {
            let grids = self.ends.map(|ends| self.among.grid(ends, share));
            let errors = squared_errors(self.values, &grids);
            for j in 0..LANES {
                if errors[j] < least[j] {
                    least[j] = errors[j];
                    best[j] = grids[j];
                }
            }
        }
        best
    }
}

/// The summed squared error of each lane: differences in `f32`, as the values are, squares and sums
/// in `f64`.
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
