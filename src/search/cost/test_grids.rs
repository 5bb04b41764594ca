//! Densities and grids for the tests of costs.

use crate::{Density, Grid, Histogram, QuantFormat, Range, Scaling};

/// Spread out, few values, an outlier and zeros, values of one sign, one point, only zeros.
pub(crate) fn densities() -> Vec<Density> {
    let spread: Vec<f32> = (0..4000).map(|i| ((i * 37 % 4001) as f32 - 1500.0) * 7e-4).collect();
    let whole: Vec<f32> = (0..90).map(|i| (i % 30) as f32 - 7.0).collect();
    let outlier: Vec<f32> = spread.iter().copied().chain([0.0, 0.0, 900.37]).collect();
    let above: Vec<f32> = spread.iter().map(|x| x + 2.0).collect();
    let below: Vec<f32> = above.iter().map(|x| -x).collect();
    [spread, whole, outlier, above, below, vec![0.37; 3], vec![0.0]]
        .map(|values| Density::new(&Histogram::of(&values)))
        .into()
}

/// Wide and narrow grids of integer formats, with either scaling.
pub(crate) fn grids(density: &Density, formats: &[&str]) -> Vec<Grid> {
    let (min, max) = (density.min().expect("values"), density.max().expect("values"));
    let mut grids = Vec::new();
    for name in formats {
        let format = QuantFormat::parse(name).expect("known");
        for (left, right) in [(1.0, 1.0), (0.3, 0.9), (0.01, 0.2), (1.5, 0.0)] {
            let range = Range { low: min.min(0.0) * left, high: max.max(0.0) * right };
            grids.extend([Scaling::SYMMETRIC, Scaling::AFFINE].map(|s| format.grid(range, s)));
        }
    }
    grids
}
