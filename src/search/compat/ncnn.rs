//! The divergences of ncnn's KL calibration, in float32 as ncnn computes them.
//!
//! The first bins are merged to levels of equal width. A bin that a border divides belongs to both
//! levels in proportion. Both distributions get 10⁻⁴ in every bin.

use super::float32_sum::{divergence, divergences};

const EPSILON: f32 = 1e-4;

/// The divergences of keeping the first `levels`, … bins, up to all but the last. O(bins²).
///
/// There must be at least `levels` bins, not all of them zero.
pub fn ncnn_divergences(counts: &[u64], levels: usize) -> Vec<f32> {
    let sum = counts.iter().sum::<u64>() as f64;
    let shares: Vec<f32> = counts.iter().map(|&n| (n as f64 / sum) as f32).collect();
    divergences(levels..shares.len(), shares.len(), |buffers: &mut Buffers, width| {
        let Buffers { p, q, cells } = buffers;
        p.clear();
        p.extend(shares[..width].iter().map(|share| share + EPSILON));
        p[width - 1] = shares[width..].iter().fold(p[width - 1], |sum, share| sum + share);
        cells.clear();
        cells.extend((0..levels).map(|level| Cell::new(&shares, width, level, levels)));
        spread(cells, q, width);
        divergence(p, &q[..width], (1.0, 1.0))
    })
}

#[derive(Default)]
struct Buffers {
    p: Vec<f32>,
    q: Vec<f32>,
    cells: Vec<Cell>,
}

/// A level: whole bins, and parts of the two bins that its borders divide.
struct Cell {
    first: usize, // first whole bin
    last: usize,  // bin after the last whole one
    left: f32,    // part of the bin before
    right: f32,   // part of the bin after
    value: f32,
}

impl Cell {
    fn new(shares: &[f32], width: usize, level: usize, levels: usize) -> Self {
        let per_level = width as f32 / levels as f32;
        let is_last = level + 1 == levels;
        let start = if is_last { width as f32 - per_level } else { level as f32 * per_level };
        let end = if is_last { width as f32 } else { (level + 1) as f32 * per_level };
        let (first, last) = (start.ceil(), end.floor());
        let (left, right) = (first - start, end - last);
        let (first, last) = (first as usize, last as usize);
        // In the original order: the left part, the right part, then the whole bins.
        let mut sum = left * shares[first.saturating_sub(1)];
        sum += right * shares[last.min(shares.len() - 1)];
        let whole = first..last.max(first);
        let number = last as f32 - first as f32;
        let value = shares[whole].iter().fold(sum, |sum, share| sum + share);
        Self { first, last, left, right, value: value / (number + left + right) }
    }
}

/// The quantized distribution. Its extra last bin takes values of parts that lie outside.
fn spread(cells: &[Cell], q: &mut Vec<f32>, width: usize) {
    q.clear();
    q.resize(width + 1, EPSILON);
    for cell in cells.iter().filter(|cell| cell.right > 0.0) {
        q[cell.last] += cell.right * cell.value;
    }
    for cell in cells.iter().filter(|cell| cell.left > 0.0) {
        q[cell.first - 1] += cell.left * cell.value;
    }
    for cell in cells {
        for q in &mut q[cell.first..cell.last.max(cell.first)] {
            *q += cell.value;
        }
    }
}
