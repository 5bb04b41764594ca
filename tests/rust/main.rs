//! Black-box tests of the engine, against oracles that are too simple to be wrong.

mod blocks;
mod channels;
mod data;
mod density;
mod float;
mod format;
mod histogram;
mod laws;
mod methods;
mod naive;
mod purity;
mod search;
