//! Block formats: a few neighboring elements of 8 or 4 bits share one scale of 8 bits.
//!
//! | | elements | a block | its scale |
//! |---|---|---|---|
//! | MXFP8 | E4M3FN or E5M2 | 32 | E8M0: a power of two |
//! | MXFP4 | E2M1FN | 32 | E8M0 |
//! | NVFP4 | E2M1FN | 16 | E4M3FN, times one `f32` for the whole tensor |
//!
//! MX is the OCP Microscaling Formats Specification v1.0 (2023). Its scale is 2^s with s =
//! ⌊log2(amax)⌋ − (exponent of the largest element), limited to −127…127. NVFP4 is described in
//! NVIDIA, "Pretraining Large Language Models with NVFP4", 2025. Its scale is amax / 6 divided by
//! the global scale, rounded to E4M3FN and limited to 2^−9…448, so that it is never zero.
//!
//! Elements are x / scale in `f32`, rounded half to even, saturating. Blocks lie along the rows of
//! a row-major array. The last block of a row may be shorter, which is the same as padding with
//! zeros.
//!
//! # Zeros, NaN and infinities
//!
//! * A block of zeros has an MX scale of 2^−127 (⌊log2 0⌋ = −∞, limited) or an NVFP4 scale of 2^−9.
//! * A block with NaN has a NaN scale and codes of zero; all its elements read as NaN.
//! * A block with an infinity has the largest scale (log2 ∞ = ∞, limited). In MX the infinity reads
//!   as an infinity, since the product exceeds `f32`. In NVFP4 it reads as the largest value that
//!   the global scale allows. Elements that are small beside it become zero.

mod statistics;

pub use statistics::BlockStatistics;

use super::FloatFormat;
use crate::{
    error::{Error, Result},
    parallel,
};

/// Elements of one task, a multiple of every block size.
const TASK: usize = 1 << 15;
/// Elements from which a second thread is used.
const PARALLEL: usize = 1 << 17;

const MAGNITUDE: u32 = u32::MAX >> 1;
const INFINITY: u32 = 0xff << 23;

/// A format of elements, their block size and their scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockFormat {
    element: FloatFormat,
    block_size: usize,
    scales: ScaleFormat,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ScaleFormat {
    /// E8M0: the code of 2^s is s + 127, that of NaN 255
    PowerOfTwo,
    /// E4M3FN times a global scale, which [`BlockFormat::nvfp4`] has checked
    Global(f32),
}

impl BlockFormat {
    /// MXFP8 or MXFP4, according to the element.
    pub fn mx(element: FloatFormat) -> Self {
        Self { element, block_size: 32, scales: ScaleFormat::PowerOfTwo }
    }

    /// NVFP4. The largest value that it represents is 6 · 448 · `global_scale`.
    ///
    /// # Errors
    /// [`Error::GlobalScale`] unless this value is finite and the scale is a positive normal
    /// number.
    pub fn nvfp4(global_scale: f32) -> Result<Self> {
        let element = FloatFormat::E2M1FN;
        let largest = element.max() * FloatFormat::E4M3FN.max() * global_scale;
        if !(global_scale >= f32::MIN_POSITIVE && largest.is_finite()) {
            return Err(Error::GlobalScale(global_scale));
        }
        Ok(Self { element, block_size: 16, scales: ScaleFormat::Global(global_scale) })
    }

    /// The format with this name. NVFP4 requires a global scale; the others take none.
    ///
    /// # Errors
    /// [`Error::BlockFormat`] for other names; it lists the known ones. [`Error::GlobalScale`] as
    /// [`nvfp4`](Self::nvfp4).
    pub fn parse(name: &str, global_scale: Option<f32>) -> Result<Self> {
        match (name, global_scale) {
            ("mxfp8_e4m3fn", None) => Ok(Self::mx(FloatFormat::E4M3FN)),
            ("mxfp8_e5m2", None) => Ok(Self::mx(FloatFormat::E5M2)),
            ("mxfp4", None) => Ok(Self::mx(FloatFormat::E2M1FN)),
            ("nvfp4", Some(global_scale)) => Self::nvfp4(global_scale),
            _ => Err(Error::BlockFormat(name.to_owned())),
        }
    }

    /// Format of the elements.
    pub fn element(self) -> FloatFormat {
        self.element
    }

    /// Elements that share a scale.
    pub fn block_size(self) -> usize {
        self.block_size
    }

    /// Number of blocks, and of scales, of `len` elements in rows of `row_len`.
    pub fn blocks(self, len: usize, row_len: usize) -> usize {
        len / row_len.max(1) * row_len.div_ceil(self.block_size)
    }

    /// Writes the codes of `values` and of their scales. Rows have `row_len` elements.
    ///
    /// # Panics
    /// Unless `codes` is as long as `values`, and `scales` has one code for each of the
    /// [`blocks`](Self::blocks).
    pub fn quantize(self, row_len: usize, values: &[f32], codes: &mut [u8], scales: &mut [u8]) {
        assert_eq!(values.len(), codes.len(), "the caller allocates the codes");
        assert_eq!(self.blocks(values.len(), row_len), scales.len(), "and the scales");
        let task = self.task(values.len(), row_len);
        let tasks = values.chunks(task.elements).zip(codes.chunks_mut(task.elements));
        let tasks = tasks.zip(scales.chunks_mut(task.blocks));
        parallel::for_each(values.len() >= PARALLEL, tasks, |((values, codes), scales)| {
            self.quantize_rows(task.row, values, codes, scales);
        });
    }

    /// Writes the values of codes and scales: the inverse of [`quantize`](Self::quantize).
    ///
    /// # Panics
    /// Unless the lengths are those of `quantize`.
    pub fn dequantize(self, row_len: usize, codes: &[u8], scales: &[u8], values: &mut [f32]) {
        assert_eq!(values.len(), codes.len(), "the caller allocates the values");
        assert_eq!(self.blocks(values.len(), row_len), scales.len(), "and checks the scales");
        let task = self.task(values.len(), row_len);
        let tasks = values.chunks_mut(task.elements).zip(codes.chunks(task.elements));
        let tasks = tasks.zip(scales.chunks(task.blocks));
        parallel::for_each(codes.len() >= PARALLEL, tasks, |((values, codes), scales)| {
            self.dequantize_rows(task.row, codes, scales, values);
        });
    }

    /// Writes `values` quantized and dequantized.
    ///
    /// # Panics
    /// Unless `out` is as long as `values`.
    pub fn fake_quantize(self, row_len: usize, values: &[f32], out: &mut [f32]) {
        assert_eq!(values.len(), out.len(), "the caller allocates the output");
        let task = self.task(values.len(), row_len);
        let tasks = values.chunks(task.elements).zip(out.chunks_mut(task.elements));
        parallel::for_each(values.len() >= PARALLEL, tasks, |(values, out)| {
            self.fake_rows(task.row, values, out);
        });
    }

    #[inline(never)] // inlined, it is a tenth slower
    fn quantize_rows(self, row: usize, values: &[f32], codes: &mut [u8], scales: &mut [u8]) {
        let codes = codes.chunks_mut(row).flat_map(|row| row.chunks_mut(self.block_size));
        for ((values, codes), code) in self.rows(row, values).zip(codes).zip(scales) {
            let scale = self.scale(block_max(values));
            *code = scale.code;
            if scale.real.is_nan() {
                codes.fill(0);
                continue;
            }
            for (code, &x) in codes.iter_mut().zip(values) {
                *code = self.element.encode(x / scale.real);
            }
        }
    }

    fn dequantize_rows(self, row: usize, codes: &[u8], scales: &[u8], values: &mut [f32]) {
        let values = values.chunks_mut(row).flat_map(|row| row.chunks_mut(self.block_size));
        for ((values, codes), &code) in values.zip(self.rows(row, codes)).zip(scales) {
            let scale = self.real(code);
            if scale.is_nan() {
                values.fill(f32::NAN);
                continue;
            }
            for (x, &code) in values.iter_mut().zip(codes) {
                *x = self.element.decode(code) * scale;
            }
        }
    }

    fn fake_rows(self, row: usize, values: &[f32], out: &mut [f32]) {
        let out = out.chunks_mut(row).flat_map(|row| row.chunks_mut(self.block_size));
        for (values, out) in self.rows(row, values).zip(out) {
            let scale = self.scale(block_max(values)).real;
            if scale.is_nan() {
                out.fill(f32::NAN);
                continue;
            }
            for (y, &x) in out.iter_mut().zip(values) {
                *y = self.element.round(x / scale) * scale;
            }
        }
    }

    /// The scale of a block whose largest magnitude is `amax`.
    #[inline]
    fn scale(self, amax: f32) -> Scale {
        let code = match self.scales {
            ScaleFormat::PowerOfTwo if amax.is_nan() => 255,
            ScaleFormat::PowerOfTwo if amax.is_infinite() => 254,
            ScaleFormat::PowerOfTwo => {
                // f32 and E8M0 have the same exponent bias. A denormal reads as exponent −127,
                // which is its own or too large; the difference is limited to −127 anyway.
                let exponent = amax.to_bits() >> 23;
                exponent.saturating_sub(self.element.max_exponent() as u32) as u8
            }
            ScaleFormat::Global(_) if amax.is_nan() => FloatFormat::E4M3FN.encode(amax),
            ScaleFormat::Global(global_scale) => {
                let wanted = amax / self.element.max() / global_scale;
                FloatFormat::E4M3FN.encode(wanted.max(FloatFormat::E4M3FN.smallest()))
            }
        };
        Scale { code, real: self.real(code) }
    }

    /// The real value of an element 1 in a block whose scale has this code.
    #[inline]
    fn real(self, code: u8) -> f32 {
        match (self.scales, code) {
            (ScaleFormat::PowerOfTwo, 0) => f32::from_bits(1 << 22), // 2^−127 is denormal
            (ScaleFormat::PowerOfTwo, 255) => f32::NAN,
            (ScaleFormat::PowerOfTwo, _) => f32::from_bits(u32::from(code) << 23),
            (ScaleFormat::Global(global_scale), _) => {
                FloatFormat::E4M3FN.decode(code) * global_scale
            }
        }
    }

    /// The blocks of some rows.
    fn rows<T>(self, row: usize, data: &[T]) -> impl Iterator<Item = &[T]> {
        data.chunks(row).flat_map(move |row| row.chunks(self.block_size))
    }

    /// How to split an array into tasks of whole blocks.
    fn task(self, len: usize, row_len: usize) -> Task {
        if row_len == len || row_len.is_multiple_of(self.block_size) {
            // Blocks end where rows end, so the array can be treated as one row.
            return Task { row: TASK, elements: TASK, blocks: TASK / self.block_size };
        }
        let rows = (TASK / row_len).max(1);
        let blocks = rows * row_len.div_ceil(self.block_size);
        Task { row: row_len, elements: rows * row_len, blocks }
    }
}

struct Scale {
    code: u8,
    real: f32, // NaN, or finite and positive
}

#[derive(Clone, Copy)]
struct Task {
    row: usize, // elements after which a block ends, even a shorter one
    elements: usize,
    blocks: usize,
}

/// The largest magnitude; NaN if there is any. As integers, bits without sign are ordered: finite
/// magnitudes, infinity, NaN. So their maximum is found without branches.
#[inline]
fn block_max(block: &[f32]) -> f32 {
    let bits = block.iter().fold(0, |max, x| max.max((x.to_bits() & MAGNITUDE) as i32)) as u32;
    f32::from_bits(if bits > INFINITY { f32::NAN.to_bits() } else { bits })
}
