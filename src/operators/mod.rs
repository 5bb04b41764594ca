//! Operators inside ONNX Runtime, which work on a model's tensors while it runs.
//!
//! ONNX Runtime loads operators from any shared library that exports `RegisterCustomOps`, and the
//! extension module is one. There are three, in the domain `quantcal`:
//!
//! * `Observe` records a tensor. It follows the node that produces the tensor, takes over the name
//!   of the tensor and passes it on without a copy. So a tensor is counted while it exists, and
//!   memory is that of plain inference.
//! * `Round` rounds a tensor to a grid that is an input of the model, so that one session can try
//!   many grids.
//! * `RoundInPlace` does the same and writes over the tensor.
//!
//! [`Taps`] registers the statistics of the tensors under a number. The `Observe` nodes of the
//! graph have this number and their position as attributes. ONNX Runtime creates an operator for
//! each node when it opens a session. From then on the operator holds the statistics itself. So
//! sessions are independent of each other, and nothing is looked up while a model runs.
//!
//! The unsafe code, calls of C functions, is in `runtime`, `table` and `registration`.

mod observe;
mod registration;
mod round;
mod rounding;
mod runtime;
mod table;
mod tap;

pub use tap::{Tap, Taps};
