//! Black-box tests of the engine, against oracles that are too simple to be wrong.

// Oracles may take the system's mathematics: they agree within tolerances.
#![allow(clippy::disallowed_methods)]

mod blocks;
mod channels;
mod data;
mod density;
mod divergence;
mod float;
mod format;
mod histogram;
mod laws;
mod methods;
mod migration;
mod naive;
mod purity;
mod ranges;
mod search;
mod smoothed;
mod weights;
