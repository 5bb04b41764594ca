//! The searches: histogram in, range out.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use super::{error::CalibrationError, format::Format, histogram::Histogram, scalars::Integer};
use crate::{
    Density, Error, Range,
    search::{self, Distribution, Fit, KlOptions, PercentileTails},
};

type Ends = (f64, f64);

fn ends(range: Range) -> Ends {
    (range.low, range.high)
}

/// The finite minimum and maximum.
#[pyfunction]
pub(super) fn minmax(histogram: &Histogram) -> Ends {
    let state = histogram.snapshot();
    let end = |value: Option<f32>| value.map_or(0.0, f64::from);
    (end(state.min()), end(state.max()))
}

/// The range that covers a share `q` of the values, or leaves out 1 − q at each end.
#[pyfunction]
pub(super) fn percentile(
    py: Python<'_>,
    histogram: &Histogram,
    q: f64,
    each_tail: bool,
    format: Format,
) -> PyResult<Ends> {
    let (format, scaling) = format.resolve()?;
    let tails = if each_tail { PercentileTails::Each } else { PercentileTails::Split };
    let state = histogram.snapshot();
    let symmetric = format.is_symmetric(scaling);
    Ok(py.detach(|| search::percentile(&state, q, tails, symmetric)).map(ends)?)
}

/// The range of minimum divergence on a view of `num_bins` bins.
#[pyfunction]
pub(super) fn kl(
    py: Python<'_>,
    histogram: &Histogram,
    num_bins: Integer,
    num_levels: Option<Integer>,
    two_sided: Option<bool>,
    format: Format,
) -> PyResult<Ends> {
    let (format, scaling) = format.resolve()?;
    let num_levels = num_levels.map(|n| n.limited(Error::NumLevels)).transpose()?;
    let options = KlOptions { num_bins: num_bins.within(Error::NumBins)?, num_levels, two_sided };
    let state = histogram.snapshot();
    Ok(py.detach(|| search::kl(&state, options, format, scaling)).map(ends)?)
}

/// The divergence of keeping the values in a range, in nats.
#[pyfunction]
pub(super) fn divergence(
    py: Python<'_>,
    histogram: &Histogram,
    low: f64,
    high: f64,
    num_bins: Integer,
    format: Format,
) -> PyResult<f64> {
    let (format, scaling) = format.resolve()?;
    let num_bins = num_bins.within(Error::NumBins)?;
    let state = histogram.snapshot();
    let range = Range { low, high };
    Ok(py.detach(|| search::divergence(&state, range, num_bins, format, scaling))?)
}

type Bounds<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

/// The lower and the upper bounds of ONNX Runtime's divergences.
#[pyfunction]
pub(super) fn ort_divergence_bounds<'py>(
    py: Python<'py>,
    counts: PyReadonlyArray1<'py, u64>,
    levels: usize,
) -> Bounds<'py> {
    let counts: Vec<u64> = counts.as_array().iter().copied().collect();
    let (lower, upper) = py.detach(|| search::ort_divergence_bounds(&counts, levels));
    (lower.into_pyarray(py), upper.into_pyarray(py))
}

/// ncnn's divergences of keeping `levels` bins and more.
#[pyfunction]
pub(super) fn ncnn_divergences<'py>(
    py: Python<'py>,
    counts: PyReadonlyArray1<'py, u64>,
    levels: usize,
) -> Bound<'py, PyArray1<f32>> {
    let counts: Vec<u64> = counts.as_array().iter().copied().collect();
    py.detach(|| search::ncnn_divergences(&counts, levels)).into_pyarray(py)
}

/// The range of minimum error to the power `p`.
#[pyfunction]
pub(super) fn mse(py: Python<'_>, histogram: &Histogram, p: f64, format: Format) -> PyResult<Ends> {
    let (format, scaling) = format.resolve()?;
    let state = histogram.snapshot();
    Ok(py.detach(|| search::mse(&Density::new(&state), p, format, scaling)).map(ends)?)
}

/// The range of minimum squared error by the fixed point.
#[pyfunction]
pub(super) fn octav(py: Python<'_>, histogram: &Histogram, format: Format) -> PyResult<Ends> {
    let (format, scaling) = format.resolve()?;
    let state = histogram.snapshot();
    Ok(py.detach(|| search::octav(&state, format, scaling)).map(ends)?)
}

/// The range whose codes have the highest entropy.
#[pyfunction]
pub(super) fn max_entropy(py: Python<'_>, histogram: &Histogram, format: Format) -> PyResult<Ends> {
    let (format, scaling) = format.resolve()?;
    let state = histogram.snapshot();
    Ok(ends(py.detach(|| search::max_entropy(&Density::new(&state), format, scaling))))
}

/// The entropy of the codes, in bits.
#[pyfunction]
pub(super) fn code_entropy(
    py: Python<'_>,
    histogram: &Histogram,
    format: Format,
    scale: f32,
    zero_point: i32,
) -> PyResult<f64> {
    let grid = crate::Grid::new(format.resolve()?.0, scale, zero_point)?;
    let state = histogram.snapshot();
    Ok(py.detach(|| search::code_entropy(&Density::new(&state), grid)))
}

const DISTRIBUTIONS: [(&str, Distribution); 4] = [
    ("gauss", Distribution::Gauss),
    ("laplace", Distribution::Laplace),
    ("half_gauss", Distribution::HalfGauss),
    ("half_laplace", Distribution::HalfLaplace),
];

/// The distributions that can be fitted, the best first: name, spread, Kolmogorov distance.
#[pyfunction]
pub(super) fn fits(py: Python<'_>, histogram: &Histogram) -> Vec<(&'static str, f64, f64)> {
    let state = histogram.snapshot();
    let mut fits: Vec<_> = py.detach(|| {
        let fit = |(name, d)| Some((name, search::fit(&state, d)?));
        DISTRIBUTIONS.into_iter().filter_map(fit).collect()
    });
    fits.sort_by(|(_, a), (_, b): &(_, Fit)| a.distance.total_cmp(&b.distance));
    fits.into_iter().map(|(name, fit)| (name, fit.spread, fit.distance)).collect()
}

/// The analytic range from the named distribution or from the best fit; [min, max] without a fit.
#[pyfunction]
pub(super) fn aciq(
    py: Python<'_>,
    histogram: &Histogram,
    distribution: Option<&str>,
    closed_form: bool,
    format: Format,
) -> PyResult<Ends> {
    let (format, scaling) = format.resolve()?;
    let state = histogram.snapshot();
    let named = DISTRIBUTIONS.iter().find(|(name, _)| distribution == Some(*name));
    Ok(ends(py.detach(|| {
        let density = Density::new(&state);
        let fit = match named {
            Some((_, named)) => search::fit(&state, *named),
            None => search::best_fit(&state),
        };
        match fit {
            Some(fit) if closed_form => {
                search::closed_form(&density, fit, state.moments().std, format, scaling)
            }
            Some(fit) => search::aciq(&density, fit, format, scaling),
            None => search::minmax(&density),
        }
    })))
}

fn named(distribution: &str) -> PyResult<Distribution> {
    let found = DISTRIBUTIONS.iter().find(|(name, _)| distribution == *name);
    found.map(|&(_, known)| known).ok_or_else(|| {
        CalibrationError::new_err(format!("distribution \"{distribution}\" is not known"))
    })
}

/// The analytic threshold in units of the spread.
#[pyfunction]
pub(super) fn analytic_threshold(distribution: &str, bits: u32) -> PyResult<f64> {
    Ok(search::threshold(named(distribution)?, bits))
}

/// The share of a full form beyond its analytic threshold.
#[pyfunction]
pub(super) fn share_beyond(distribution: &str, bits: u32) -> PyResult<f64> {
    Ok(search::share_beyond(named(distribution)?, bits))
}
