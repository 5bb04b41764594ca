//! The error type of the crate. Each message says what was wrong, the value, and what to do.

use std::fmt;

/// Everything that can be refused. Values cannot: every bit pattern of an element has a bin or a
/// counter.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A resolution outside 3…12 mantissa bits. Below 3, a bin is wider than an eighth of its
    /// value. Above 12, the counters no longer fit a cache, and no answer improves.
    MantissaBits(i64),
    /// `coarsen` to a higher resolution.
    Refine {
        /// mantissa bits of the histogram
        have: u32,
        /// mantissa bits that were requested
        want: u32,
    },
    /// Counts that no recording can give.
    Counts(&'static str),
    /// More values or observations than can be counted.
    TooMany {
        /// how many there would be, limited to 64 bits
        count: u64,
    },
    /// A quantile outside 0…1, or NaN.
    Quantile(f64),
    /// A uniform view needs at least one bin.
    NumBins(i64),
    /// Fewer than two levels.
    NumLevels(i64),
    /// A norm outside 1…4.
    Norm(f64),
    /// An interval whose ends are not finite, or not in order.
    Interval {
        /// the lower end as given
        low: f64,
        /// the upper end as given
        high: f64,
    },
    /// Values that are not finite, where only finite ones are accepted.
    NonFinite {
        /// number of NaN
        nan: u64,
        /// number of +inf
        posinf: u64,
        /// number of −inf
        neginf: u64,
        /// number of all values
        count: u64,
    },
    /// An unknown format name.
    Format(String),
    /// A scale that is not a finite positive number.
    Scale(f32),
    /// A zero point that is not a code of the format.
    ZeroPoint {
        /// the zero point as given
        zero_point: i32,
        /// lowest code of the format
        qmin: i32,
        /// highest code of the format
        qmax: i32,
    },
    /// An unknown block format name, or one that needs or does not take a global scale.
    BlockFormat(String),
    /// A global scale of NVFP4 that is not a positive normal number, or is too large.
    GlobalScale(f32),
    /// Numbers of codes and scales of a block format that do not match.
    BlockLengths {
        /// number of element codes
        codes: usize,
        /// number of scale codes
        scales: usize,
        /// number of scale codes that the elements need
        expected: usize,
    },
    /// A floating format where codes must be evenly spaced.
    NotInteger(String),
    /// A block size below one.
    BlockSize(i64),
    /// An error in the parameters of one channel.
    InChannel {
        /// the channel
        channel: usize,
        /// the error
        error: Box<Error>,
    },
    /// Different numbers of scales and zero points.
    Lengths {
        /// number of scales
        scales: usize,
        /// number of zero points
        zero_points: usize,
    },
    /// Different numbers of grids and channels.
    Grids {
        /// number of grids
        have: usize,
        /// number of channels of the array
        want: usize,
    },
    /// A number of threads below 1 or above 1024.
    Threads(i64),
    /// An axis that the array does not have.
    AxisRange {
        /// the axis as given
        axis: i64,
        /// sizes of the array
        shape: Vec<usize>,
    },
    /// An axis of size 0.
    NoChannels {
        /// the axis as given
        axis: i64,
        /// sizes of the array
        shape: Vec<usize>,
    },
    /// Channels along another axis than before.
    Axis {
        /// the axis before
        have: i64,
        /// the axis now
        want: i64,
    },
    /// Another number of channels than before.
    Channels {
        /// number of channels before
        have: usize,
        /// number of channels now
        want: usize,
    },
    /// A node of a graph whose recorder does not exist.
    NoTap {
        /// the number of the taps, from the node
        number: i64,
        /// the position among them, from the node
        position: i64,
    },
    /// The bytes do not begin like a file of this library.
    Foreign,
    /// The bytes were written by a later version of the library.
    Newer {
        /// version of the bytes
        found: u8,
        /// newest version that this build reads
        known: u8,
    },
    /// The bytes contain another kind of object, such as a calibrator instead of a histogram.
    Kind {
        /// the expected kind
        want: &'static str,
        /// the kind of the bytes
        found: u8,
    },
    /// The bytes end too early.
    Truncated {
        /// number of bytes
        len: usize,
    },
    /// The bytes were altered: checksum, structure or sums are wrong.
    Altered(&'static str),
    /// The bytes contain two tensors of one name.
    Duplicate(String),
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl std::error::Error for Error {}

impl fmt::Display for Error {
    #[allow(clippy::too_many_lines)] // one message for each variant
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MantissaBits(m) => {
                write!(f, "mantissa_bits is {m}, but it must be 3 to 12; 8 suits float32")
            }
            Self::Refine { have, want } => write!(
                f,
                "cannot coarsen from {have} to {want} mantissa bits: detail that was not \
                 recorded cannot be added; observe again with mantissa_bits={want}"
            ),
            Self::Counts(what) => {
                write!(
                    f,
                    "the counts contradict each other: {what}; pass them as they were counted"
                )
            }
            Self::TooMany { count } => write!(
                f,
                "there would be {count}{} values or observations in total, but at most 2^60 can be \
                 counted; merge each file once, or start a new calibrator",
                if *count == u64::MAX { " or more" } else { "" }
            ),
            Self::Quantile(q) => write!(f, "quantile is {q}, but it must be between 0 and 1"),
            Self::NumBins(n) => {
                write!(f, "num_bins is {n}, but it must be between 1 and 16777216")
            }
            Self::NumLevels(n) => write!(f, "num_levels is {n}, but it must be at least 2"),
            Self::Norm(p) => write!(f, "p is {p}, but it must be between 1 and 4"),
            Self::Interval { low, high } => {
                let reason = if low.is_finite() && high.is_finite() && low <= high {
                    "it is wider than the largest float64"
                } else {
                    "both ends must be finite and low must not exceed high"
                };
                write!(
                    f,
                    "the interval [{}, {}] is not usable: {reason}",
                    short(*low),
                    short(*high)
                )
            }
            Self::NonFinite { nan, posinf, neginf, count } => {
                write!(f, "{nan} NaN, {posinf} +inf and {neginf} -inf among {count} values")
            }
            Self::Format(name) => {
                write!(
                    f,
                    "format \"{name}\" is not known; known formats: int2 to int16, uint2 to uint16, \
                     float8_e4m3fn, float8_e5m2, float4_e2m1fn"
                )
            }
            Self::Scale(s) => write!(f, "scale is {s}, but it must be finite and positive"),
            Self::ZeroPoint { zero_point, qmin, qmax } => write!(
                f,
                "zero_point is {zero_point}, but the format has codes {qmin} to {qmax} only"
            ),
            Self::BlockFormat(name) => write!(
                f,
                "block format \"{name}\" is not known; known: mxfp8_e4m3fn, mxfp8_e5m2, mxfp4, \
                 and nvfp4, which alone has a global scale"
            ),
            Self::GlobalScale(s) => write!(
                f,
                "global_scale is {s}, but it must be between 1.2e-38 and 1.26e35, so that the \
                 largest value, 2688 times the scale, is a finite float32"
            ),
            Self::BlockLengths { codes, scales, expected } => write!(
                f,
                "{codes} codes need {expected} scales, one for each block of a row, but there \
                 are {scales}"
            ),
            Self::NotInteger(name) => write!(
                f,
                "format \"{name}\" has no evenly spaced codes, but the blocks of a weight take \
                 integers; use int4 or uint4"
            ),
            Self::BlockSize(size) => {
                write!(f, "the block size is {size}, but it must be at least 1")
            }
            Self::Threads(n) => {
                write!(f, "the number of threads is {n}, but it must be between 1 and 1024")
            }
            Self::InChannel { channel, error } => write!(f, "channel {channel}: {error}"),
            Self::Lengths { scales, zero_points } => write!(
                f,
                "there are {scales} scales and {zero_points} zero points, but every channel \
                 needs one of each"
            ),
            Self::Grids { have, want } => write!(
                f,
                "the array has {want} channels, but there are parameters for {have}; check the axis"
            ),
            Self::AxisRange { axis, shape } if shape.is_empty() => {
                write!(f, "axis is {axis}, but a single number has no axes; observe it without one")
            }
            Self::AxisRange { axis, shape } => {
                let rank = shape.len();
                let last = rank - 1;
                write!(
                    f,
                    "axis is {axis}, but an array of shape {shape:?} has axes -{rank} to {last}"
                )
            }
            Self::NoChannels { axis, shape } => write!(
                f,
                "axis {axis} of an array of shape {shape:?} has no channels; give the axis of \
                 the channels"
            ),
            Self::Axis { have, want } => write!(
                f,
                "axis is {want}, but earlier observations had axis {have}; name the axis in the \
                 same way each time, or give the tensor another name"
            ),
            Self::Channels { have, want } => write!(
                f,
                "there are {want} channels, but earlier observations had {have}; check the axis, \
                 or give the tensor another name"
            ),
            Self::NoTap { number, position } => write!(
                f,
                "there is no recorder {position} of number {number}: quantcal::Observe nodes work \
                 only in the process and the session for which they were made"
            ),
            Self::Foreign => {
                write!(f, "these bytes were not written by quantcal: they do not begin with QCAL")
            }
            Self::Newer { found, known } => write!(
                f,
                "these bytes have format version {found}, but this quantcal reads up to {known}; \
                 upgrade quantcal"
            ),
            Self::Kind { want, found } => {
                write!(f, "these bytes hold another kind of object ({found}), not a {want}")
            }
            Self::Truncated { len } => {
                write!(f, "the data end too early, after {len} bytes; the file was cut off")
            }
            Self::Altered(what) => {
                write!(f, "the data were altered: {what}; restore the file or observe again")
            }
            Self::Duplicate(name) => write!(
                f,
                "tensor \"{name}\" occurs twice in the data, so its statistics are ambiguous; \
                 restore the file or observe again"
            ),
        }
    }
}

/// A number as text; very large and very small ones have an exponent.
pub(crate) fn short<T: fmt::Display + fmt::LowerExp + Copy + Into<f64>>(number: T) -> String {
    let size = number.into().abs();
    if size.is_finite() && size != 0.0 && !(1e-5..1e16).contains(&size) {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}
