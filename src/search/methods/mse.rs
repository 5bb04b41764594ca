//! MSE: the range with the minimum expected error E|x − x̂|^p, squared by default.
//!
//! Toolkits for language models use p = 2.4, which penalizes clipping more.

use super::grid_search::grid_search;
use crate::{
    Density, QuantFormat, Range, Scaling,
    error::{Error, Result},
    search::cost::{Cost, TailSums, UniformCosts, has_many_levels},
};

/// Up to this many segments, each is visited. The error of so few values over the range has sharp
/// jags, which merging neighbors would blur.
const FEW: usize = 1536;

/// The range whose grid has the minimum expected error to the power `p`, from 1 to 4.
///
/// O(1000 · min(levels, segments)) for two ends, a quarter of it for one.
///
/// # Errors
/// [`Error::Norm`] for `p` outside 1…4.
pub fn mse(density: &Density, p: f64, format: QuantFormat, scaling: Scaling) -> Result<Range> {
    if !(1.0..=4.0).contains(&p) {
        return Err(Error::Norm(p));
    }
    if format.int().is_none() {
        let cost = Cost::new(p);
        return Ok(grid_search(density, format, scaling, |_, grid| cost.of(density, grid)));
    }
    if p == 2.0 && !has_many_levels(density, format) {
        let tails = TailSums::new(density);
        return Ok(grid_search(density, format, scaling, |_, grid| tails.squared_error(grid)));
    }
    if density.segments().len() <= FEW {
        let cost = Cost::new(p);
        return Ok(grid_search(density, format, scaling, |_, grid| cost.of(density, grid)));
    }
    let costs = UniformCosts::new(density, p);
    Ok(grid_search(density, format, scaling, |stage, grid| costs.of(stage, grid)))
}
