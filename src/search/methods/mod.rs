//! The ways to choose a range.
//!
//! MSE, other norms and entropy differ only in how they score a grid. They share one search
//! (`grid_search`), or `power_of_two_scale` where scales are powers of two.

mod aciq;
mod blocks;
mod coverage;
mod entropy;
mod grid_search;
mod kl;
mod kl_divergence;
mod mse;
mod octav;
mod percentile;
mod power_of_two_scale;
pub mod smoothquant;

pub use aciq::{Distribution, Fit, aciq, best_fit, closed_form, fit, share_beyond, threshold};
pub use blocks::BlockSearch;
pub use entropy::{code_entropy, max_entropy};
pub use kl::{KlOptions, divergence, divergences, kl};
pub use mse::mse;
pub use octav::octav;
pub use percentile::{PercentileTails, minmax, percentile};
