//! Recording a model's tensors while ONNX Runtime runs it: the operator `quantcal::Observe`.
//!
//! ONNX Runtime loads operators from any shared library that exports `RegisterCustomOps`, and the
//! extension module is one. The operator follows the node that produces a tensor, takes over the
//! name of the tensor and passes it on without a copy. So a tensor is counted while it exists, and
//! memory is that of plain inference.
//!
//! [`Taps`] registers the statistics of the tensors under a number. The nodes of the graph have
//! this number and their position as attributes. ONNX Runtime creates an operator for each node
//! when it opens a session. From then on the operator holds the statistics itself. So sessions are
//! independent of each other, and nothing is looked up while a model runs.
//!
//! The unsafe code, calls of C functions, is in `runtime` and `operator`.

mod operator;
mod runtime;
mod tap;

pub use tap::{Tap, Taps};
