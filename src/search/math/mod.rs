//! Mathematics with the same bits on every machine.
//!
//! Ranges must not depend on the system's `log` and `pow`, which differ between machines. `libm` is
//! used instead, and here are the functions that loops call too often for it. `clippy.toml` refuses
//! the system's functions.

mod logarithm;
mod power_poly;
mod power_table;
mod rounding;

pub(super) use self::{
    logarithm::{ln, x_ln_x},
    power_poly::PowerPoly,
    power_table::PowerTable,
    rounding::nearest,
};
