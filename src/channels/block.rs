//! Recording a block of channels, in one of three ways.
//!
//! * Where a channel has long runs of neighboring elements, each run is recorded in place.
//! * Where it has shorter runs, or where thousands of channels are last, all channels are counted
//!   together (`histogram/record/interleaved.rs`).
//! * Otherwise the elements of each channel are gathered, as `f32`, into one contiguous run, which
//!   is recorded like any slice.

use std::ops::Range;

use crate::{
    Histogram,
    float::{Element, WIDEN_BLOCK},
    histogram::Interleaved,
    shape::Shape,
};

/// Most channels of a block. A row of 128 `f32` takes 512 bytes, long enough for the processor to
/// prefetch it.
pub(super) const WIDTH: usize = 128;
/// Elements of a channel that are gathered before they are counted. 2048 `f32` take 8 KiB, well
/// inside a first-level cache, and fill one block of the counting loop.
const RUN: usize = 2048;
/// Elements that are gathered from a block of few channels: 256 KiB, which a second-level cache
/// holds. Longer runs pay because recording one costs as much as some hundred elements, whatever
/// its length.
const TILE: usize = 1 << 16;
/// Rows that are distributed to the runs together: at least half a cache line for each run. Writing
/// to every run for every row would miss the processor's address translation cache each time.
const STAGED: usize = 8;
/// Unused elements between two runs, so that runs of a power of two do not share cache lines.
const PAD: usize = 16;

/// Values and their shape.
pub(super) struct Data<'a, T> {
    pub(super) values: &'a [T],
    pub(super) shape: Shape,
}

impl<T: Element> Data<'_, T> {
    /// Records one channel in each histogram, from channel `first` on, at the outer positions
    /// `rows`.
    pub(super) fn record(
        &self,
        histograms: &mut [Histogram],
        first: usize,
        rows: Range<usize>,
        tile: &mut Vec<f32>,
    ) {
        let Shape { channels, inner, .. } = self.shape;
        if inner >= RUN {
            for (histogram, channel) in histograms.iter_mut().zip(first..) {
                for row in rows.clone() {
                    histogram.record(&self.values[(row * channels + channel) * inner..][..inner]);
                }
            }
            return;
        }
        let interleaved = Interleaved {
            values: self.values,
            stride: channels * inner,
            first: first * inner,
            inner,
            rows: rows.clone(),
        };
        let mantissa_bits = histograms.first().and_then(Histogram::mantissa_bits);
        if mantissa_bits.is_some_and(|bits| interleaved.is_faster(bits)) {
            return interleaved.record(histograms);
        }
        let run = RUN.max(TILE / histograms.len().max(1));
        let together = (run / inner).min(rows.len()); // rows of one tile
        let stride = together * inner + PAD;
        tile.resize(histograms.len() * stride, 0.0);
        let mut staged = Staged::new();
        let width = histograms.len() * inner;
        let step = (WIDEN_BLOCK / width).max(STAGED);
        for start in rows.clone().step_by(together) {
            let rows = start..(start + together).min(rows.end);
            for at in rows.clone().step_by(step) {
                let rows = at..(at + step).min(rows.end);
                let rows = staged.rows(self.values, rows, channels * inner, first * inner, width);
                let runs = tile.chunks_exact_mut(stride);
                transpose(rows, inner, width, runs.map(|run| &mut run[(at - start) * inner..]));
            }
            let filled = rows.len() * inner;
            for (histogram, run) in histograms.iter_mut().zip(tile.chunks_exact(stride)) {
                histogram.record(&run[..filled]);
            }
        }
    }
}

/// Some rows of a block as contiguous `f32`.
struct Staged {
    buffer: [f32; WIDEN_BLOCK],
    rows: Vec<f32>,
}

impl Staged {
    fn new() -> Self {
        Self { buffer: [0.0; WIDEN_BLOCK], rows: Vec::new() }
    }

    /// The `width` elements from `first` on of each row. Rows are `stride` elements apart.
    fn rows<'a, T: Element>(
        &'a mut self,
        values: &'a [T],
        rows: Range<usize>,
        stride: usize,
        first: usize,
        width: usize,
    ) -> &'a [f32] {
        if width == stride && rows.len() * stride <= WIDEN_BLOCK {
            return T::widen(&values[rows.start * stride..rows.end * stride], &mut self.buffer);
        }
        self.rows.clear();
        for row in rows {
            for block in values[row * stride + first..][..width].chunks(WIDEN_BLOCK) {
                self.rows.extend_from_slice(T::widen(block, &mut self.buffer));
            }
        }
        &self.rows
    }
}

/// Distributes rows of `width` elements, `inner` for each channel, to the channels' runs.
fn transpose<'a>(
    rows: &[f32],
    inner: usize,
    width: usize,
    runs: impl Iterator<Item = &'a mut [f32]>,
) {
    for (run, at) in runs.zip((0..).step_by(inner)) {
        match (inner, width) {
            // With a stride that the compiler knows, several elements are moved at a time.
            (1, 1) => column::<1>(rows, at, run),
            (1, 2) => column::<2>(rows, at, run),
            (1, 3) => column::<3>(rows, at, run),
            (1, 4) => column::<4>(rows, at, run),
            (1, 8) => column::<8>(rows, at, run),
            (1, _) => {
                for (x, row) in run.iter_mut().zip(rows.chunks_exact(width)) {
                    *x = row[at];
                }
            }
            _ => {
                for (piece, row) in run.chunks_exact_mut(inner).zip(rows.chunks_exact(width)) {
                    piece.copy_from_slice(&row[at..at + inner]);
                }
            }
        }
    }
}

fn column<const WIDTH: usize>(rows: &[f32], at: usize, run: &mut [f32]) {
    for (x, row) in run.iter_mut().zip(rows.as_chunks::<WIDTH>().0) {
        *x = row[at];
    }
}
