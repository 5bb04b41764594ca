//! The range with the least expected error E|x − x̂|^p: squared, unless another norm is asked for.
//!
//! p = 2.4 is what toolkits for language models use: it forgives clipping less.

use super::{
    cost::{Cost, many_levels},
    coverage::least_magnitude,
    optimum::{Stage, optimum},
    tails::Tails,
};
use crate::{
    Density, QuantFormat, Range, Scaling,
    error::{Error, Result},
    float::MAX_MANTISSA_BITS,
};

/// Share of the finest step below which segments are joined.
const DETAIL: f64 = 1.0 / 64.0;
/// Mantissa bits that the early stages see.
const ROUGH: u32 = 4;
const FINER: u32 = 6;

/// The range whose grid has the least expected error to the power `p`, from 1 to 4. O(1000 ·
/// min(levels, segments)) for two ends, a quarter of it for one.
///
/// # Errors
/// [`Error::Norm`] for `p` outside 1…4.
pub fn mse(density: &Density, p: f64, format: QuantFormat, scaling: Scaling) -> Result<Range> {
    if !(1.0..=4.0).contains(&p) {
        return Err(Error::Norm(p));
    }
    let cost = Cost::new(p);
    if p == 2.0 {
        if format.int().is_some() && !many_levels(density, format) {
            let tails = Tails::new(density);
            return Ok(optimum(density, format, scaling, |_, grid| tails.squared_error(grid)));
        }
        return Ok(optimum(density, format, scaling, |_, grid| cost.of(density, grid)));
    }
    // Here the cost is that of visiting the segments, so that the early stages see fewer, and none
    // sees detail far below the finest step: that of a range that clips nearly all.
    let least = least_magnitude(density, f64::abs);
    let step = f64::from(format.grid(Range::symmetric(least), scaling).scale());
    let detail = DETAIL * step;
    let rough = density.thinned(ROUGH, detail);
    let finer = density.thinned(FINER, detail);
    let all = density.thinned(MAX_MANTISSA_BITS, detail);
    Ok(optimum(density, format, scaling, |stage, grid| match stage {
        Stage::Coarse => cost.of_segments(&rough, grid),
        Stage::Dense => cost.of_segments(&finer, grid),
        Stage::Fine => cost.of_segments(&all, grid),
    }))
}
