//! The Python border: `quantcal._core`. It converts arguments, releases the interpreter, calls the
//! engine and converts the result; it computes nothing.

// pyo3 hands arguments over by value.
#![allow(clippy::needless_pass_by_value)]

mod archive;
mod arrays;
mod blocks;
mod channels;
mod coding;
mod error;
mod format;
mod grid;
mod grids;
mod histogram;
mod migration;
mod observer;
mod real;
mod search;
mod tensor;
mod whole;

use pyo3::prelude::*;

use crate::Error;
use whole::Whole;

/// The compiled part of quantcal. Private: import from `quantcal`.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        archive::{read_archive, write_archive},
        blocks::{
            block_dequantize, block_fake_quantize, block_maxima, block_quantize, block_statistics,
        },
        channels::ChannelStats,
        coding::code_blocks,
        error::{CalibrationError, NonFiniteError},
        format::format_names,
        grid::{check_grid, dequantize, fake_quantize, grid, grid_error, quantize},
        grids::{
            channel_grid_error, channel_grids, check_channel_grids, dequantize_channels,
            fake_quantize_channels, quantize_channels,
        },
        histogram::{Histogram, histogram_of_counts},
        migration::{divided_errors, divided_histograms, multiplied_errors},
        observer::Taps,
        search::{
            aciq, analytic_threshold, code_entropy, divergence, fits, kl, max_entropy, minmax, mse,
            mxnet_divergences, ncnn_divergences, octav, percentile, share_beyond,
            smoothed_divergences,
        },
        tensor::TensorStats,
        {close_gate, get_num_threads, open_gate, set_num_threads},
    };

    #[pymodule_export]
    const DEBUG_BUILD: bool = cfg!(debug_assertions);

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Who waits for a fork gives up the interpreter, which the forking thread needs.
        crate::fork::wait_through(|until_open| {
            if Python::try_attach(|py| py.detach(until_open)).is_none() {
                until_open();
            }
        });
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Set the number of threads that quantcal uses in this process.
#[pyfunction]
fn set_num_threads(num_threads: Whole) -> PyResult<()> {
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
