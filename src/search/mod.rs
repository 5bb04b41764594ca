//! The searches: each maps a [`Density`](crate::Density) and a format to a [`Range`](crate::Range).
//!
//! A search is a deterministic function of the density, and it scales with the data: multiplying
//! all values by 2^k multiplies the range by exactly 2^k. Without values, or with zeros only, every
//! search returns [0, 0], from which [`QuantFormat::grid`](crate::QuantFormat::grid) makes a usable
//! grid.
//!
//! [`BlockSearch`] is the exception: a block has so few values that it reads the values themselves.
//!
//! # The rooms
//!
//! * `math`: logarithms, powers and rounding, with the same bits on every machine
//! * `cost`: the error of a grid, from the density
//! * `methods`: the ways to choose a range
//! * `compat`: the divergences of other toolkits, exactly as they compute them

mod compat;
mod cost;
mod math;
mod methods;

pub use compat::{ncnn_divergences, ort_divergence_bounds};
pub use cost::{GridError, grid_error, grid_errors};
pub use methods::{
    BlockSearch, Distribution, Fit, KlOptions, PercentileTails, aciq, best_fit, closed_form,
    code_entropy, divergence, divergences, fit, kl, max_entropy, minmax, mse, octav, percentile,
    share_beyond, smoothquant, threshold,
};
