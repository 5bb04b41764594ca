//! The error of a grid, computed from the density: the quantity that the searches minimize.
//!
//! | file | computes |
//! |---|---|
//! | `p_norm` | Σ \|x − x̂\|^p of any grid, by levels or by segments |
//! | `squared_error` | the squared error of many evenly spaced grids, by tail sums |
//! | `uniform_cost` | the p-norm of many evenly spaced grids, by the edges of a `merged_density` |
//! | `grid_error` | the figures by which a person compares grids |

mod grid_error;
mod merged_density;
mod p_norm;
mod squared_error;
#[cfg(test)]
mod test_grids;
mod uniform_cost;

pub use grid_error::{GridError, grid_error, grid_errors};

pub(super) use self::{
    p_norm::{Cost, has_many_levels},
    squared_error::TailSums,
    uniform_cost::UniformCosts,
};

/// How far a search has come. Earlier stages may use a less detailed density.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// candidates over the whole range, of which the best few are examined further
    Coarse,
    /// the neighborhood of these candidates, finely
    Dense,
    /// the last refinement, which decides
    Fine,
}
