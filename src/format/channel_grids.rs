//! One grid for each channel: arrays to codes and back along an axis.

use super::{Code, Grid, QuantFormat};
use crate::{
    error::{Error, Result},
    parallel,
    shape::Shape,
};

/// Elements of one task, whose codes fit a second-level cache.
const TASK: usize = 1 << 16;
/// Elements from which a second thread is used: some 0.1 ms of work.
const PARALLEL: usize = 1 << 18;

/// One grid for each channel, all of one format.
///
/// Every element is quantized exactly as by the [`Grid`] of its channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelGrids {
    format: QuantFormat,
    grids: Vec<Grid>,
}

impl ChannelGrids {
    /// Grids from scales and zero points, by channel.
    ///
    /// # Errors
    /// [`Error::InChannel`] with an error of [`Grid::new`]; [`Error::Lengths`] unless there are as
    /// many zero points as scales.
    pub fn new(format: QuantFormat, scales: &[f32], zero_points: &[i32]) -> Result<Self> {
        if scales.len() != zero_points.len() {
            return Err(Error::Lengths { scales: scales.len(), zero_points: zero_points.len() });
        }
        let pairs = scales.iter().zip(zero_points).enumerate();
        let grids = pairs.map(|(channel, (&scale, &zero_point))| {
            Grid::new(format, scale, zero_point)
                .map_err(|error| Error::InChannel { channel, error: Box::new(error) })
        });
        Ok(Self { format, grids: grids.collect::<Result<_>>()? })
    }

    /// The format of all grids.
    pub fn format(&self) -> QuantFormat {
        self.format
    }

    /// The grids, by channel.
    pub fn grids(&self) -> &[Grid] {
        &self.grids
    }

    /// The codes of contiguous `values`, written to `codes`, which has the same length.
    ///
    /// # Errors
    /// [`Error::Grids`] unless there is a grid for each channel.
    pub fn quantize<C: Code>(&self, values: &[f32], shape: Shape, codes: &mut [C]) -> Result<()> {
        match self.format {
            QuantFormat::Int(int) => {
                self.map(values, shape, codes, |grid, x| C::from_i32(grid.code(int, x)))
            }
            QuantFormat::Float(float) => self.map(values, shape, codes, |grid, x| {
                C::from_i32(float.encode(x / grid.scale).into())
            }),
        }
    }

    /// The real values of contiguous `codes`, written to `values`, which has the same length.
    ///
    /// # Errors
    /// [`Error::Grids`] unless there is a grid for each channel.
    pub fn dequantize<C: Code>(&self, codes: &[C], shape: Shape, values: &mut [f32]) -> Result<()> {
        match self.format {
            QuantFormat::Int(_) => {
                self.map(codes, shape, values, |grid, code| grid.real(code.to_i32()))
            }
            QuantFormat::Float(float) => self.map(codes, shape, values, |grid, code| {
                float.decode(code.to_i32() as u8) * grid.scale
            }),
        }
    }

    /// Contiguous `values` quantized and dequantized, written to `out`, which has the same length.
    ///
    /// # Errors
    /// [`Error::Grids`] unless there is a grid for each channel.
    pub fn fake_quantize(&self, values: &[f32], shape: Shape, out: &mut [f32]) -> Result<()> {
        match self.format {
            QuantFormat::Int(int) => {
                self.map(values, shape, out, |grid, x| grid.real(grid.code(int, x)))
            }
            QuantFormat::Float(float) => {
                self.map(values, shape, out, |grid, x| float.round(x / grid.scale) * grid.scale)
            }
        }
    }

    fn map<A: Copy + Sync, B: Send>(
        &self,
        from: &[A],
        shape: Shape,
        to: &mut [B],
        map: impl Fn(Grid, A) -> B + Sync,
    ) -> Result<()> {
        assert_eq!(from.len(), to.len(), "the caller allocates the output");
        assert_eq!(from.len(), shape.len(), "the shape is that of the values");
        let Shape { channels, inner, .. } = shape;
        if channels != self.grids.len() {
            return Err(Error::Grids { have: self.grids.len(), want: channels });
        }
        if from.is_empty() {
            return Ok(());
        }
        // A row is the neighboring elements of one channel; `first` is the number of the first row.
        let work = |first: usize, from: &[A], to: &mut [B]| {
            let (mut from, mut to, mut channel) = (from, to, first % channels);
            while !from.is_empty() {
                let grids = &self.grids[channel..];
                let len = from.len().min(grids.len() * inner);
                let (source, target);
                (source, from) = from.split_at(len);
                (target, to) = to.split_at_mut(len);
                along(grids, inner, source, target, &map);
                channel = 0;
            }
        };
        let rows = (TASK / inner).max(1);
        let tasks = from.chunks(rows * inner).zip(to.chunks_mut(rows * inner)).enumerate();
        parallel::for_each(from.len() >= PARALLEL, tasks, |(k, (from, to))| {
            work(k * rows, from, to);
        });
        Ok(())
    }
}

/// Maps `inner` elements with each grid, one grid after the other.
fn along<A: Copy, B>(
    grids: &[Grid],
    inner: usize,
    from: &[A],
    to: &mut [B],
    map: impl Fn(Grid, A) -> B,
) {
    if inner == 1 {
        for ((b, &a), &grid) in to.iter_mut().zip(from).zip(grids) {
            *b = map(grid, a);
        }
        return;
    }
    let rows = to.chunks_mut(inner).zip(from.chunks(inner));
    for ((to, from), &grid) in rows.zip(grids) {
        for (b, &a) in to.iter_mut().zip(from) {
            *b = map(grid, a);
        }
    }
}
