//! Floats and their bits: the element types that can be observed, and the codes of their bins.

mod code;
mod element;

pub use code::{Layout, MAX_MANTISSA_BITS, MIN_MANTISSA_BITS};
pub use element::{Element, WIDEN_BLOCK};

pub(crate) use element::are_finite;
