//! Calibration for post-training quantization: run the network once, compute ranges as often as
//! needed.
//!
//! One streaming pass records the activations of a network into one small exact [`Histogram`] for
//! each tensor. Any method then computes ranges, scales and zero points from the histograms,
//! without running the network again.
//!
//! # Example: from values to a scale
//!
//! ```
//! use quantcal::{Density, Histogram, QuantFormat, Scaling, search};
//!
//! let values: Vec<f32> = (0..10_000).map(|i| (i as f32 * 0.37).sin()).collect();
//! let histogram = Histogram::of(&values);
//! let format = QuantFormat::parse("int8")?;
//! let range = search::mse(&Density::new(&histogram), 2.0, format, Scaling::SYMMETRIC)?;
//! let grid = format.grid(range, Scaling::SYMMETRIC);
//! assert!(grid.scale() > 0.0 && grid.zero_point() == 0);
//! # Ok::<(), quantcal::Error>(())
//! ```
//!
//! # Example: merging two shards
//!
//! ```
//! use quantcal::Histogram;
//!
//! let (first, second) = ([1.0f32, -2.0, 0.0], [f32::NAN, 3.5]);
//! let mut merged = Histogram::of(&first);
//! merged.merge(&Histogram::of(&second))?;
//! assert_eq!(merged, Histogram::of(&[1.0f32, -2.0, 0.0, f32::NAN, 3.5]));
//! assert_eq!((merged.count(), merged.zeros(), merged.nan()), (5, 1, 1));
//! # Ok::<(), quantcal::Error>(())
//! ```
//!
//! # The modules
//!
//! Each module depends only on those above it.
//!
//! * [`error`]: the error type
//! * [`fork`](mod@fork): locks that no other thread holds when the process forks
//! * [`simd`]: code for wider vectors, chosen at run time; prefetching; denormals
//! * [`float`]: the bits of a float and the code of its bin
//! * [`parallel`]: the thread pool
//! * [`histogram`]: record, merge, coarsen, quantiles, moments, prefix sums, uniform views
//! * [`shape`]: where the channels of an array lie in memory
//! * [`format`](mod@format): integers, 8- and 4-bit floats, block formats: scales, rounding,
//!   saturation
//! * [`tensor`]: the statistics of a tensor: its histogram and the extremes of each observation
//! * [`buffered`]: the same with a buffer of extremes
//! * [`channels`]: statistics by channel, and the same with a deferred first observation
//! * [`wire`]: the checked format of files, pickles and messages
//! * [`search`]: the methods that choose a range
//! * `operators` (feature `onnxruntime`): operators that record or round the tensors of a model while
//!   ONNX Runtime runs it
//! * `python` (feature `python`): the Python bindings, which compute nothing
#![cfg_attr(not(feature = "python"), deny(unsafe_code))]

pub mod buffered;
pub mod channels;
pub mod error;
pub mod float;
pub mod fork;
pub mod format;
pub mod histogram;
#[cfg(feature = "onnxruntime")]
pub mod operators;
pub mod parallel;
pub mod search;
pub mod shape;
pub mod simd;
pub mod tensor;
pub mod wire;

#[cfg(feature = "python")]
mod python;

pub use buffered::BufferedStats;
pub use channels::{ChannelStats, DeferredStats};
pub use error::{Error, Result};
pub use format::{ChannelGrids, FloatFormat, Grid, QuantFormat, Range, Scaling};
pub use histogram::{Density, Histogram, Mass, Moments, Segment};
pub use tensor::TensorStats;
