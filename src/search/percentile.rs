//! Ranges by coverage: which share of the values is represented without clipping.

use crate::{Histogram, Range, error::Result, histogram::Density};

/// How the values that a percentile leaves out are shared between the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tails {
    /// (1−q)/2 below and as much above: a share `q` is covered in all
    Split,
    /// 1−q below and as much above
    Each,
}

/// The range that covers a share `q` of the values.
///
/// Symmetric: the `q`-quantile of the magnitudes, on both sides, whatever the tails. Affine: from a
/// low quantile to a high one, as [`Tails`] says. O(bins).
///
/// # Errors
/// [`Error::Quantile`](crate::Error::Quantile) for `q` outside 0…1.
pub fn percentile(histogram: &Histogram, q: f64, tails: Tails, symmetric: bool) -> Result<Range> {
    crate::histogram::check_quantile(q)?;
    if symmetric {
        return Ok(Range::symmetric(histogram.abs_quantile(q)?.unwrap_or(0.0)));
    }
    let density = Density::new(histogram);
    let tail = match tails {
        Tails::Split => (1.0 - q) / 2.0,
        Tails::Each => 1.0 - q,
    };
    let quantile = |q: f64| density.quantile(q).unwrap_or(0.0);
    let (low, high) = (quantile(tail), quantile(1.0 - tail));
    // A share of less than a half at each end would cross over.
    Ok(Range { low: low.min(high), high: low.max(high) })
}
