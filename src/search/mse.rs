//! The range with the least expected error E|x − x̂|^p: squared, unless another norm is asked for.
//!
//! p = 2.4 is what toolkits for language models use: it forgives clipping less.

use super::{
    cost::{Cost, many_levels},
    even::EvenCosts,
    optimum::optimum,
    tails::Tails,
};
use crate::{
    Density, QuantFormat, Range, Scaling,
    error::{Error, Result},
};

/// Up to so many segments each is visited: the jags of so few values are sharp, and joining what lies
/// close together would blur them.
const FEW: usize = 1536;

/// The range whose grid has the least expected error to the power `p`, from 1 to 4. O(1000 ·
/// min(levels, segments)) for two ends, a quarter of it for one.
///
/// # Errors
/// [`Error::Norm`] for `p` outside 1…4.
pub fn mse(density: &Density, p: f64, format: QuantFormat, scaling: Scaling) -> Result<Range> {
    if !(1.0..=4.0).contains(&p) {
        return Err(Error::Norm(p));
    }
    if format.int().is_none() {
        let cost = Cost::new(p);
        return Ok(optimum(density, format, scaling, |_, grid| cost.of(density, grid)));
    }
    if p == 2.0 && !many_levels(density, format) {
        let tails = Tails::new(density);
        return Ok(optimum(density, format, scaling, |_, grid| tails.squared_error(grid)));
    }
    if density.segments().len() <= FEW {
        let cost = Cost::new(p);
        return Ok(optimum(density, format, scaling, |_, grid| cost.of(density, grid)));
    }
    let costs = EvenCosts::new(density, p);
    Ok(optimum(density, format, scaling, |stage, grid| costs.of(stage, grid)))
}
