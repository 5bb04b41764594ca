//! Calibration for post-training quantization: measure once, decide as often as you like.
//!
//! A network's activations are recorded into one small exact [`Histogram`] per tensor, in one
//! streaming pass; ranges, scales and zero points are computed from it afterwards, by any method,
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
//! # The map
//!
//! * [`float`]: the bits of a float and the code of its bin
//! * [`histogram`]: record, merge, coarsen, quantiles, moments, prefix sums, uniform views
//! * [`tensor`]: a histogram beside the extremes of each observation, what a calibrator keeps
//! * [`channels`]: one histogram for each channel of a tensor
//! * [`recorder`]: statistics of a tensor, with extremes gathered before they count
//! * [`held`]: those of channels, with the first observation held back for a while
//! * [`wire`]: the one checked format for files, pickles and the network
//! * [`format`](mod@format): integers, 8- and 4-bit floats, block formats: scales, rounding,
//!   saturation
//! * [`search`]: the methods that choose a range
//! * [`parallel`]: the one thread pool
//! * [`fork`](mod@fork): locks that no fork copies while they are held
//! * [`shape`]: where the channels of an array lie in memory
//!
//! Each module uses those above it only. The Python bindings (feature `python`) use them all and
//! compute nothing.
//!
//! With the feature `onnxruntime` there is also `observer`: an operator that records the tensors of a
//! model while ONNX Runtime runs it.
#![cfg_attr(not(feature = "python"), deny(unsafe_code))]

pub mod channels;
pub mod error;
pub mod float;
pub mod fork;
pub mod format;
pub mod held;
pub mod histogram;
#[cfg(feature = "onnxruntime")]
pub mod observer;
pub mod parallel;
pub mod recorder;
pub mod search;
pub mod shape;
pub mod simd;
pub mod tensor;
pub mod wire;

#[cfg(feature = "python")]
mod python;

pub use channels::ChannelStats;
pub use error::{Error, Result};
pub use format::{FloatFormat, Grid, Grids, QuantFormat, Range, Scaling};
pub use held::Held;
pub use histogram::{Density, Histogram, Mass, Moments, Segment};
pub use recorder::Recorder;
pub use tensor::TensorStats;
