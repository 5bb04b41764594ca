//! Ranges by coverage: which share of the values is represented without clipping.

use crate::{Histogram, Range, error::Result, histogram::Density};

/// The range that covers a share `q` of the values.
///
/// Symmetric: the `q`-quantile of the magnitudes, on both sides. Affine: half of the rest is cut on
/// either side, from the (1−q)/2 to the (1+q)/2 quantile. O(bins).
///
/// # Errors
/// [`Error::Quantile`](crate::Error::Quantile) for `q` outside 0…1.
pub fn percentile(histogram: &Histogram, q: f64, symmetric: bool) -> Result<Range> {
    crate::histogram::check_quantile(q)?;
    if symmetric {
        return Ok(Range::symmetric(histogram.abs_quantile(q)?.unwrap_or(0.0)));
    }
    let density = Density::new(histogram);
    let tail = (1.0 - q) / 2.0;
    Ok(Range {
        low: density.quantile(tail).unwrap_or(0.0),
        high: density.quantile(1.0 - tail).unwrap_or(0.0),
    })
}
