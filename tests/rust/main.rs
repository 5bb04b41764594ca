//! Black-box tests of the engine, against simple oracles.

// Oracles may use the mathematics of the system, since results are compared within tolerances.
#![allow(clippy::disallowed_methods)]

mod blocks;
mod channels;
mod data;
mod density;
mod divergence;
mod float_format;
mod format;
mod histogram;
mod laws;
mod methods;
mod naive;
mod ort_entropy;
mod purity;
mod ranges;
mod search;
mod smoothquant;
mod weights;
