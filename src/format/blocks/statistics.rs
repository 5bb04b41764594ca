//! Statistics of the effect of a block format on an array. Any split into whole rows gives the same
//! sums.

use super::{BlockFormat, PARALLEL, block_max};
use crate::{histogram::Histogram, parallel};

/// The effect of a block format on an array. The elements of blocks with NaN are counted in
/// `elements` only.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStatistics {
    /// the largest magnitude of each block
    pub block_maxima: Histogram,
    /// blocks by the code of their scale
    pub scales: [u64; 256],
    /// all elements
    pub elements: u64,
    /// elements that saturation moves further than rounding would: more than half a step beyond the
    /// largest element
    pub saturated: u64,
    /// elements that become zero, exact zeros included
    pub rounded_to_zero: u64,
}

impl Default for BlockStatistics {
    fn default() -> Self {
        Self {
            block_maxima: Histogram::new(),
            scales: [0; 256],
            elements: 0,
            saturated: 0,
            rounded_to_zero: 0,
        }
    }
}

impl BlockStatistics {
    fn merged(mut self, other: &Self) -> Self {
        self.block_maxima.add(&other.block_maxima);
        for (sum, count) in self.scales.iter_mut().zip(&other.scales) {
            *sum += count;
        }
        self.elements += other.elements;
        self.saturated += other.saturated;
        self.rounded_to_zero += other.rounded_to_zero;
        self
    }
}

impl BlockFormat {
    /// Statistics of quantizing `values`. They are sums of counts, so threads make no difference.
    pub fn statistics(self, row_len: usize, values: &[f32]) -> BlockStatistics {
        let task = self.task(values.len(), row_len);
        let sums = parallel::fold(
            values.len() >= PARALLEL,
            values.chunks(task.elements),
            BlockStatistics::default,
            |sum, values| self.add_rows(task.row, sum, values),
        );
        sums.into_iter().fold(BlockStatistics::default(), |a, b| a.merged(&b))
    }

    fn add_rows(self, row: usize, sum: &mut BlockStatistics, values: &[f32]) {
        let limit = self.element.max() + self.half_step();
        let mut maxima = Vec::with_capacity(values.len().div_ceil(self.block_size));
        for values in self.rows(row, values) {
            let amax = block_max(values);
            let scale = self.scale(amax);
            maxima.push(amax);
            sum.scales[usize::from(scale.code)] += 1;
            let (mut saturated, mut zeroed) = (0u32, 0u32); // both stay 0 if the scale is NaN
            for &x in values {
                let steps = x / scale.real;
                saturated += u32::from(steps.abs() > limit);
                zeroed += u32::from(self.element.round(steps) == 0.0 && !scale.real.is_nan());
            }
            sum.saturated += u64::from(saturated);
            sum.rounded_to_zero += u64::from(zeroed);
        }
        sum.elements += values.len() as u64;
        sum.block_maxima.record(&maxima);
    }

    /// Half the distance between the two largest elements.
    fn half_step(self) -> f32 {
        let levels = self.element.levels();
        (levels[levels.len() - 1] - levels[levels.len() - 2]) / 2.0
    }

    /// The largest magnitude of each block. Rows have `row_len` elements. In blocks that contain
    /// NaN or an infinity, this is the largest magnitude.
    pub fn block_maxima(self, row_len: usize, values: &[f32]) -> Histogram {
        let task = self.task(values.len(), row_len);
        let parts = parallel::fold(
            values.len() >= PARALLEL,
            values.chunks(task.elements),
            Histogram::new,
            |histogram, values| {
                let maxima: Vec<f32> = self.rows(task.row, values).map(block_max).collect();
                histogram.record(&maxima);
            },
        );
        parts.into_iter().fold(Histogram::new(), |mut sum, part| {
            sum.add(&part);
            sum
        })
    }
}
