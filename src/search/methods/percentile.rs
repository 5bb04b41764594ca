//! Ranges by coverage: the share of the values that is represented without clipping.

use crate::{Density, Histogram, Range, error::Result, histogram::check_quantile};

/// How the values that a percentile leaves out are distributed between both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PercentileTails {
    /// a share (1−q)/2 at each end, so that `q` is covered in total
    Split,
    /// a share 1−q at each end
    Each,
}

/// The finite minimum and maximum.
pub fn minmax(density: &Density) -> Range {
    Range { low: density.min().unwrap_or(0.0), high: density.max().unwrap_or(0.0) }
}

/// The range that covers a share `q` of the values. O(bins).
///
/// * Symmetric: the `q`-quantile of the magnitudes, on both sides, for any tails.
/// * Affine: from a low quantile to a high one, according to the tails.
///
/// # Errors
/// [`Error::Quantile`](crate::Error::Quantile) for `q` outside 0…1.
pub fn percentile(
    histogram: &Histogram,
    q: f64,
    tails: PercentileTails,
    symmetric: bool,
) -> Result<Range> {
    check_quantile(q)?;
    if symmetric {
        return Ok(Range::symmetric(histogram.abs_quantile(q)?.unwrap_or(0.0)));
    }
    let density = Density::new(histogram);
    let tail = match tails {
        PercentileTails::Split => (1.0 - q) / 2.0,
        PercentileTails::Each => 1.0 - q,
    };
    let quantile = |q: f64| density.quantile(q).unwrap_or(0.0);
    let (low, high) = (quantile(tail), quantile(1.0 - tail));
    // With tails of more than a half, the quantiles are in the other order.
    Ok(Range { low: low.min(high), high: low.max(high) })
}
