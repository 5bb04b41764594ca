//! The searches: each maps a [`Density`](crate::Density) and a format to a [`Range`](crate::Range).
//!
//! All are functions of the density alone, deterministic, and scale with the data: multiplying the
//! values by 2^k multiplies the range by exactly 2^k. Without values, or with zeros only, every
//! search returns [0, 0], from which [`QuantFormat::grid`](crate::QuantFormat::grid) makes a
//! usable grid.
//!
//! [`BlockSearch`] is the exception: a block has so few values that it reads these.

mod aciq;
mod blocks;
#[cfg(test)]
mod cases;
mod chains;
mod cost;
mod coverage;
mod entropy;
mod error;
mod even;
mod groups;
mod joined;
mod kl;
mod logarithm;
pub mod migration;
mod mse;
mod mxnet;
mod ncnn;
mod norm;
mod octav;
mod optimum;
mod percentile;
mod power;
mod powers;
mod single;
mod smoothed;
mod tails;

pub use aciq::{Distribution, Fit, aciq, best_fit, closed_form, fit, share_beyond, threshold};
pub use blocks::BlockSearch;
pub use entropy::{code_entropy, max_entropy};
pub use error::{GridError, grid_error, grid_errors};
pub use kl::{KlOptions, divergence, divergences, kl};
pub use mse::mse;
pub use mxnet::mxnet_divergences;
pub use ncnn::ncnn_divergences;
pub use octav::octav;
pub use percentile::{Tails, percentile};
pub use smoothed::smoothed_divergences;

use crate::{Density, Range};

/// The finite minimum and maximum.
pub fn minmax(density: &Density) -> Range {
    Range { low: density.min().unwrap_or(0.0), high: density.max().unwrap_or(0.0) }
}
