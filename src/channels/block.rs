//! Recording a block of channels: gathered, where they lie, or abreast.
//!
//! The rows of a block are gathered, as `f32`, into one contiguous run for each channel; a run is then
//! counted like any other slice. Rows that are long already are counted where they lie; rather long
//! ones, and thousands of channels along the last axis, are counted without being gathered
//! (`histogram/abreast.rs`).

use crate::{
    Histogram,
    float::{BLOCK, Element},
    histogram::Abreast,
    shape::Shape,
};

/// Most channels of a block. A row of a block is then 512 bytes long: enough for the
/// processor to fetch ahead.
pub(super) const WIDTH: usize = 128;
/// Elements of a channel that are gathered before they are counted.
const RUN: usize = 2048;
/// Rows that are distributed to the runs together, half a cache line of each: writing to every run
/// for every row would wait for the processor's table of pages.
const STAGED: usize = 8;
/// Between two runs, so that runs of a power of two do not fall onto the same cache lines.
const PAD: usize = 16;

/// Values with their shape.
pub(super) struct Data<'a, T> {
    pub(super) values: &'a [T],
    pub(super) shape: Shape,
}

impl<T: Element> Data<'_, T> {
    /// Records the channels from `first` on, one for each histogram, at the outer positions `rows`.
    pub(super) fn record(
        &self,
        histograms: &mut [Histogram],
        first: usize,
        rows: std::ops::Range<usize>,
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
        let abreast = Abreast {
            values: self.values,
            stride: channels * inner,
            first: first * inner,
            inner,
            rows: rows.clone(),
        };
        let mantissa_bits = histograms.first().and_then(Histogram::mantissa_bits);
        if mantissa_bits.is_some_and(|bits| abreast.pays(bits)) {
            return abreast.record(histograms);
        }
        let together = (RUN / inner).min(rows.len()); // rows of one tile
        let stride = together * inner + PAD;
        tile.resize(histograms.len() * stride, 0.0);
        let mut staged = Vec::new();
        for start in rows.clone().step_by(together) {
            let rows = start..(start + together).min(rows.end);
            for at in rows.clone().step_by(STAGED) {
                let rows = at..(at + STAGED).min(rows.end);
                staged.clear();
                for row in rows.clone() {
                    let row = &self.values[(row * channels + first) * inner..];
                    widen(&row[..histograms.len() * inner], &mut staged);
                }
                let runs = tile.chunks_exact_mut(stride);
                transpose(&staged, inner, runs.map(|run| &mut run[(at - start) * inner..]));
            }
            let filled = rows.len() * inner;
            for (histogram, run) in histograms.iter_mut().zip(tile.chunks_exact(stride)) {
                histogram.record(&run[..filled]);
            }
        }
    }
}

/// Appends a row as `f32`.
fn widen<T: Element>(row: &[T], staged: &mut Vec<f32>) {
    let mut buffer = [0.0; BLOCK];
    for block in row.chunks(BLOCK) {
        staged.extend_from_slice(T::widen(block, &mut buffer));
    }
}

/// Distributes rows of `inner` elements for each channel to the channels' runs.
fn transpose<'a>(rows: &[f32], inner: usize, runs: impl ExactSizeIterator<Item = &'a mut [f32]>) {
    let width = runs.len() * inner;
    if inner > 1 || rows.len() < STAGED * width {
        for (run, at) in runs.zip((0..).step_by(inner)) {
            for (piece, row) in run.chunks_exact_mut(inner).zip(rows.chunks_exact(width)) {
                piece.copy_from_slice(&row[at..at + inner]);
            }
        }
        return;
    }
    let mut of: [&[f32]; STAGED] = [&[]; STAGED];
    for (row, rows) in of.iter_mut().zip(rows.chunks_exact(width)) {
        *row = &rows[..width];
    }
    for (run, k) in runs.zip(0..width) {
        let run = &mut run[..STAGED];
        for j in 0..STAGED {
            run[j] = of[j][k];
        }
    }
}
