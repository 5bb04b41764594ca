//! Recording a model's tensors while ONNX Runtime runs it: the operator `quantcal::Observe`.
//!
//! ONNX Runtime loads operators from any shared library that exports `RegisterCustomOps`; the
//! extension module is one. The operator stands behind the node that makes a tensor and passes it
//! on without a copy, so a tensor is counted while it is alive and dies when it would have died
//! anyway: memory is that of plain inference.
//!
//! How an operator finds what it is to record into: [`Taps`] lays the tensors' recorders down under
//! a number, the nodes of the graph carry this number and their position as attributes, and ONNX
//! Runtime creates an operator for each node when it opens a session. From then on the operator holds
//! the recorder itself, so sessions keep apart and no look-up happens while a model runs.
//!
//! The unsafe code, calls across the C border, is in `runtime` and `operator`.

mod operator;
mod runtime;
mod tap;

pub use tap::{Tap, Taps};
