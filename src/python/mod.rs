//! The Python bindings: `quantcal._core`. A function converts its arguments, releases the
//! interpreter, calls the engine and converts the result. The bindings compute nothing.

// pyo3 passes arguments by value.
#![allow(clippy::needless_pass_by_value)]

mod archive;
mod arrays;
mod block_format;
mod channel_grid;
mod channels;
mod codes;
mod error;
mod format;
mod grid;
mod histogram;
mod observer;
mod scalars;
mod search;
mod smoothquant;
mod tensor;
mod weight_blocks;

use pyo3::prelude::*;

use crate::Error;
use scalars::Integer;

/// The compiled part of quantcal. Private: import from `quantcal`.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        archive::{read_archive, write_archive},
        block_format::{
            block_dequantize, block_fake_quantize, block_maxima, block_quantize, block_statistics,
        },
        channel_grid::{
            channel_grid_error, channel_grids, check_channel_grids, dequantize_channels,
            fake_quantize_channels, quantize_channels,
        },
        channels::ChannelStats,
        error::{CalibrationError, NonFiniteError},
        format::format_names,
        grid::{check_grid, dequantize, fake_quantize, grid, grid_error, quantize},
        histogram::{Histogram, histogram_from_counts},
        observer::Taps,
        search::{
            aciq, analytic_threshold, code_entropy, divergence, fits, kl, max_entropy, minmax, mse,
            ncnn_divergences, octav, ort_divergence_bounds, percentile, share_beyond,
        },
        smoothquant::{activation_errors, activation_histograms, weight_errors},
        tensor::TensorStats,
        weight_blocks::code_blocks,
        {close_gate, get_num_threads, open_gate, set_num_threads},
    };

    #[pymodule_export]
    const DEBUG_BUILD: bool = cfg!(debug_assertions);

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // A thread that waits for a fork releases the interpreter, which the forking thread needs.
        crate::fork::wait_with(|until_open| {
            if Python::try_attach(|py| py.detach(until_open)).is_none() {
                until_open();
            }
        });
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Set the number of threads that quantcal uses in this process.
#[pyfunction]
fn set_num_threads(num_threads: Integer) -> PyResult<()> {
    Ok(crate::parallel::set_num_threads(num_threads.within(Error::Threads)?)?)
}

/// Number of threads that quantcal uses in this process.
#[pyfunction]
fn get_num_threads(py: Python<'_>) -> usize {
    py.detach(crate::parallel::num_threads)
}

/// Wait until no thread changes a histogram, and let none begin until the gate is opened again.
#[pyfunction]
fn close_gate(py: Python<'_>) {
    py.detach(crate::fork::close);
}

/// Open the gate after a fork, in the parent or in the child.
#[pyfunction]
fn open_gate(in_child: bool) {
    if in_child { crate::fork::open_in_child() } else { crate::fork::open_in_parent() }
}
