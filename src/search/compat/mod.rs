//! The divergences of other toolkits, as they compute them, for tables that match theirs.

mod float32_sum;
mod ncnn;
mod ort_entropy;
mod ort_prefix_sums;

pub use ncnn::ncnn_divergences;
pub use ort_entropy::ort_divergence_bounds;
