//! The counting kernel: values to codes, codes to 16-bit counters, minimum and maximum on the way.
//!
//! | file | what it does |
//! |---|---|
//! | `keys` | reads a value as a bin code: from `f32`, or from the bits of a 16-bit float |
//! | `code_space` | says which codes a type uses, and how they map to those of the layout |
//! | `scratch` | holds the counters of a thread, in up to four subhistograms |
//! | `sample` | samples a block for repeated codes and for zeros |
//! | `pipeline` | counts one step of values while it scans the next |
//! | `count` | picks key, subhistograms and instruction set for a block |
//! | `scan` | finds minimum, maximum, zeros and non-finite values without counting |
//!
//! The kernel knows nothing of histograms or pages; `record` flushes its counters into them.

mod code_space;
mod count;
mod keys;
mod pipeline;
mod sample;
mod scan;
mod scratch;

pub(crate) use code_space::CodeSpace;
pub(crate) use count::drops_nothing;
pub(crate) use scan::{NonFiniteCounts, Scan, Summary, scan};
pub(crate) use scratch::{Subhistograms, WRAP};
