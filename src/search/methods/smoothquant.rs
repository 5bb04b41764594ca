//! `SmoothQuant`: the effect of channel scales on the errors of activations and weights.
//!
//! Channels of the activation are divided by the scales, and columns of the weight multiplied. The
//! error of a channel divided by s on a grid of step t is the error of the channel itself on a grid
//! of step t · s, divided by s². So one density for each channel serves all candidates. A candidate
//! is one set of scales, and each call evaluates several.

use crate::{
    Density, Grid, Histogram, QuantFormat, Range, Scaling, Segment,
    error::{Error, Result},
    float::Layout,
    histogram::RawCounts,
    parallel,
    search::cost::Cost,
};

/// Parts into which the rows of a weight are divided. The number does not depend on the threads, so
/// the sums do not either.
const PARTS: usize = 16;

/// One set of channel scales for each candidate.
#[derive(Debug, Clone, Copy)]
pub struct Scales<'a> {
    values: &'a [f32], // finite, positive
    channels: usize,
}

impl<'a> Scales<'a> {
    /// Consecutive sets of `channels` scales.
    ///
    /// # Errors
    /// [`Error::Scale`] unless all are finite and positive; [`Error::Grids`] if the last set is
    /// incomplete.
    pub fn new(values: &'a [f32], channels: usize) -> Result<Self> {
        if channels == 0 || !values.len().is_multiple_of(channels) {
            return Err(Error::Grids { have: values.len(), want: channels });
        }
        match values.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            Some(&scale) => Err(Error::Scale(scale)),
            None => Ok(Self { values, channels }),
        }
    }

    /// Number of candidates.
    pub fn candidates(self) -> usize {
        self.values.len() / self.channels
    }

    fn sets(self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.channels)
    }

    fn check(self, channels: usize) -> Result<()> {
        if self.channels == channels {
            return Ok(());
        }
        Err(Error::Grids { have: self.channels, want: channels })
    }
}

/// For each candidate, the histogram of the activation with divided channels. O(bins) for each.
///
/// All values of a bin count as its middle, which may fall into a neighbor of the true bin. The
/// extremes of each channel are exact.
///
/// # Errors
/// [`Error::Grids`] unless there is a scale for each channel.
pub fn activation_histograms(channels: &[Histogram], scales: Scales<'_>) -> Result<Vec<Histogram>> {
    scales.check(channels.len())?;
    let mantissa_bits = channels.iter().filter_map(Histogram::mantissa_bits).min();
    let layout = Layout::new(mantissa_bits.unwrap_or(8))?;
    let tensor = Tensor {
        segments: channels.iter().map(|h| Density::new(h).segments().to_vec()).collect(),
        nan: channels.iter().map(Histogram::nan).sum(),
        posinf: channels.iter().map(Histogram::posinf).sum(),
        neginf: channels.iter().map(Histogram::neginf).sum(),
        layout,
    };
    let sets: Vec<&[f32]> = scales.sets().collect();
    parallel::map(sets.len() > 1, sets.iter(), |set| tensor.divided(set)).into_iter().collect()
}

/// The segments of all channels, and the counts that division does not change.
struct Tensor {
    segments: Vec<Vec<Segment>>,
    nan: u64,
    posinf: u64,
    neginf: u64,
    layout: Layout,
}

impl Tensor {
    fn divided(&self, scales: &[f32]) -> Result<Histogram> {
        let mut counts = vec![0u64; self.layout.codes()];
        let (mut zeros, mut min, mut max) = (0, f32::INFINITY, f32::NEG_INFINITY);
        let mut add = |x: f32, count: u64| {
            if x == 0.0 {
                zeros += count;
            } else {
                counts[self.layout.code(x)] += count;
            }
        };
        for (segments, &scale) in self.segments.iter().zip(scales) {
            let by = |x: f64| (x / f64::from(scale)) as f32;
            let finite = |x: f64| by(x).clamp(f32::MIN, f32::MAX) + 0.0; // turns −0 into 0
            let Some((first, last)) = segments.first().zip(segments.last()) else { continue };
            let (low, high) = (finite(first.low), finite(last.high));
            (min, max) = (min.min(low), max.max(high));
            for (i, segment) in segments.iter().enumerate() {
                let mut left = segment.count;
                // An extreme keeps its exact place.
                for (is, end) in [(i == 0, low), (i + 1 == segments.len(), high)] {
                    if is && left > 0 {
                        add(end, 1);
                        left -= 1;
                    }
                }
                if left > 0 {
                    add(finite(0.5 * (segment.low + segment.high)).clamp(low, high), left);
                }
            }
        }
        let bins = (0..).zip(counts).filter(|&(_, n)| n > 0).collect();
        Histogram::from_counts(&RawCounts {
            mantissa_bits: self.layout.mantissa_bits(),
            fixed: true,
            exact: false,
            zeros,
            nan: self.nan,
            posinf: self.posinf,
            neginf: self.neginf,
            extremes: (min <= max).then_some((min, max)),
            bins,
        })
    }
}

/// Errors by channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelErrors {
    /// mean of (x − x̂)² of each channel before division, for the first candidate, then the second,
    /// …
    pub errors: Vec<f64>,
    /// mean of x² of each channel
    pub squares: Vec<f64>,
}

/// For each candidate, the mean squared errors of the channels when they are divided and quantized
/// on the candidate's grid. Errors are multiplied by the squared scales, so they are those of the
/// original channels. O(channels · (bins + candidates · levels)).
///
/// # Errors
/// [`Error::Grids`] unless there is a scale for each channel and a grid for each candidate.
pub fn activation_errors(
    channels: &[Histogram],
    scales: Scales<'_>,
    grids: &[Grid],
) -> Result<ChannelErrors> {
    scales.check(channels.len())?;
    if grids.len() != scales.candidates() {
        return Err(Error::Grids { have: grids.len(), want: scales.candidates() });
    }
    let cost = Cost::new(2.0);
    let evaluate = |(channel, histogram): (usize, &Histogram)| {
        let density = Density::new(histogram);
        let n = density.count().max(1) as f64;
        let errors = scales.sets().zip(grids).map(|(set, &grid)| {
            let step = f64::from(grid.scale()) * f64::from(set[channel]);
            cost.of(&density, grid.with_scale(step)) / n
        });
        (errors.collect::<Vec<f64>>(), density.total().s2 / n)
    };
    let found = parallel::map(channels.len() > 1, channels.iter().enumerate(), evaluate);
    let by_candidate = (0..grids.len()).flat_map(|k| found.iter().map(move |(e, _)| e[k]));
    Ok(ChannelErrors {
        errors: by_candidate.collect(),
        squares: found.iter().map(|&(_, square)| square).collect(),
    })
}

/// For each candidate, the sums of squared errors of the columns of a weight when they are
/// multiplied and each row is quantized in a symmetric range of its extremes. O(candidates ·
/// elements).
///
/// # Errors
/// [`Error::Grids`] unless rows have as many elements as there are scales.
pub fn weight_errors(
    matrix: &[f32],
    scales: Scales<'_>,
    format: QuantFormat,
    scaling: Scaling,
) -> Result<Vec<f64>> {
    let columns = scales.channels;
    if !matrix.len().is_multiple_of(columns) {
        return Err(Error::Grids { have: columns, want: matrix.len() });
    }
    let rows = (matrix.len() / columns).div_ceil(PARTS).max(1);
    let evaluate = |part: &[f32]| {
        let mut sums = vec![0.0; scales.values.len()];
        let (mut changed, mut real) = (vec![0.0; columns], vec![0.0; columns]);
        for row in part.chunks_exact(columns) {
            for (set, sums) in scales.sets().zip(sums.chunks_exact_mut(columns)) {
                let mut end = 0.0f32;
                for ((x, &w), &s) in changed.iter_mut().zip(row).zip(set) {
                    *x = w * s;
                    end = end.max(x.abs());
                }
                let high = f64::from(end);
                let grid = format.grid(Range { low: -high, high }, scaling);
                grid.fake_quantize(&changed, &mut real);
                for ((sum, &x), &y) in sums.iter_mut().zip(&changed).zip(&real) {
                    let lost = f64::from(y - x);
                    *sum += lost * lost;
                }
            }
        }
        sums
    };
    let parts = parallel::map(true, matrix.chunks(rows * columns), evaluate);
    let mut total = vec![0.0; scales.values.len()];
    for part in parts {
        for (sum, part) in total.iter_mut().zip(part) {
            *sum += part;
        }
    }
    Ok(total)
}
