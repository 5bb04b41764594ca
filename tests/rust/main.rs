//! Black-box tests of the engine, against oracles that are too simple to be wrong.

mod channels;
mod data;
mod density;
mod format;
mod histogram;
mod laws;
mod naive;
mod purity;
mod search;
