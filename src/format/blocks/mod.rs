//! Block formats: a few neighbouring elements in 8 or 4 bits share one scale in 8 bits.
//!
//! | | elements | a block | its scale |
//! |---|---|---|---|
//! | MXFP8 | E4M3FN or E5M2 | 32 | E8M0: a power of two |
//! | MXFP4 | E2M1FN | 32 | E8M0 |
//! | NVFP4 | E2M1FN | 16 | E4M3FN, times one `f32` for the whole tensor |
//!
//! MX is the OCP Microscaling Formats Specification v1.0 (2023): the scale is 2^s with
//! s = ⌊log2(amax)⌋ − (exponent of the largest element), limited to −127…127. NVFP4 (NVIDIA,
//! "Pretraining Large Language Models with NVFP4", 2025): the scale is amax / 6 over the global
//! scale, rounded to E4M3FN and limited to 2^−9…448, so that it is never zero.
//!
//! Elements are x / scale in `f32`, rounded half to even, saturating. Blocks lie along the rows of
//! a row-major array; the last block of a row may be shorter, which is the same as filling it up
//! with zeros.
//!
//! # What is not a plain number
//!
//! * Zeros: an MX scale is 2^−127 then (⌊log2 0⌋ = −∞, limited), an NVFP4 scale 2^−9.
//! * A block with NaN has a NaN scale and codes of zero; all of it reads as NaN.
//! * A block with an infinity has the largest scale (log2 ∞ = ∞, limited). In MX the infinity reads
//!   as an infinity again, the product being beyond `f32`; in NVFP4 as the largest value that the
//!   global scale allows. What lies far below it becomes zero.

mod statistics;

pub use statistics::BlockStatistics;

use super::FloatFormat;
use crate::{
    error::{Error, Result},
    parallel,
};

/// Elements of one task, a multiple of every block size.
const PIECE: usize = 1 << 15;
/// Below this, a second thread is not worth waking.
const PARALLEL: usize = 1 << 17;

const MAGNITUDE: u32 = u32::MAX >> 1;
const INFINITY: u32 = 0xff << 23;

/// Elements of one format in blocks with a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockFormat {
    element: FloatFormat,
    block_size: usize,
    scaling: Scaling,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    /// E8M0: the code of 2^s is s + 127, that of NaN 255.
    PowerOfTwo,
    /// E4M3FN times the global scale, which [`BlockFormat::nvfp4`] has checked.
    Global(f32),
}

impl BlockFormat {
    /// MXFP8 or MXFP4, as the element has it.
    pub fn mx(element: FloatFormat) -> Self {
        Self { element, block_size: 32, scaling: Scaling::PowerOfTwo }
    }

    /// NVFP4. The largest value that it represents is 6 · 448 · `global_scale`.
    ///
    /// # Errors
    /// [`Error::GlobalScale`] unless that value is finite and the scale a positive normal number.
    pub fn nvfp4(global_scale: f32) -> Result<Self> {
        let element = FloatFormat::E2M1FN;
        let largest = element.max() * FloatFormat::E4M3FN.max() * global_scale;
        if !(global_scale >= f32::MIN_POSITIVE && largest.is_finite()) {
            return Err(Error::GlobalScale(global_scale));
        }
        Ok(Self { element, block_size: 16, scaling: Scaling::Global(global_scale) })
    }

    /// The format of that name; NVFP4 alone has a global scale, and must.
    ///
    /// # Errors
    /// [`Error::BlockFormat`], which lists the known names; [`Error::GlobalScale`].
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

    /// Blocks, and so scales, of `len` elements in rows of `row_len`.
    pub fn blocks(self, len: usize, row_len: usize) -> usize {
        len / row_len.max(1) * row_len.div_ceil(self.block_size)
    }

    /// Codes of elements and of scales of `values`, whose rows have `row_len` elements.
    ///
    /// # Panics
    /// Unless `codes` is as long as `values`, and `scales` as [`blocks`](Self::blocks) says.
    pub fn quantize(self, row_len: usize, values: &[f32], codes: &mut [u8], scales: &mut [u8]) {
        assert_eq!(values.len(), codes.len(), "the caller allocates the codes");
        assert_eq!(self.blocks(values.len(), row_len), scales.len(), "and the scales");
        let piece = self.piece(values.len(), row_len);
        let pieces = values.chunks(piece.elements).zip(codes.chunks_mut(piece.elements));
        let pieces = pieces.zip(scales.chunks_mut(piece.blocks));
        parallel::for_each(values.len() >= PARALLEL, pieces, |((values, codes), scales)| {
            self.quantize_rows(piece.row, values, codes, scales);
        });
    }

    /// The values of codes and scales; the inverse of [`quantize`](Self::quantize).
    ///
    /// # Panics
    /// Unless the lengths are those of `quantize`.
    pub fn dequantize(self, row_len: usize, codes: &[u8], scales: &[u8], values: &mut [f32]) {
        assert_eq!(values.len(), codes.len(), "the caller allocates the values");
        assert_eq!(self.blocks(values.len(), row_len), scales.len(), "and checks the scales");
        let piece = self.piece(values.len(), row_len);
        let pieces = values.chunks_mut(piece.elements).zip(codes.chunks(piece.elements));
        let pieces = pieces.zip(scales.chunks(piece.blocks));
        parallel::for_each(codes.len() >= PARALLEL, pieces, |((values, codes), scales)| {
            self.dequantize_rows(piece.row, codes, scales, values);
        });
    }

    /// `values` quantised and dequantised, without the codes between.
    ///
    /// # Panics
    /// Unless `out` is as long as `values`.
    pub fn fake_quantize(self, row_len: usize, values: &[f32], out: &mut [f32]) {
        assert_eq!(values.len(), out.len(), "the caller allocates the output");
        let piece = self.piece(values.len(), row_len);
        let pieces = values.chunks(piece.elements).zip(out.chunks_mut(piece.elements));
        parallel::for_each(values.len() >= PARALLEL, pieces, |(values, out)| {
            self.fake_rows(piece.row, values, out);
        });
    }

    #[inline(never)] // a tenth slower as a part of what calls it
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

    /// The scale of a block with this largest magnitude.
    #[inline]
    fn scale(self, amax: f32) -> Scale {
        let code = match self.scaling {
            Scaling::PowerOfTwo if amax.is_nan() => 255,
            Scaling::PowerOfTwo if amax.is_infinite() => 254,
            Scaling::PowerOfTwo => {
                // The exponent of f32 has the bias of E8M0. That of a subnormal number reads as
                // −127, which is too large or right, and the difference is limited to that.
                let exponent = amax.to_bits() >> 23;
                exponent.saturating_sub(self.element.max_exponent() as u32) as u8
            }
            Scaling::Global(_) if amax.is_nan() => FloatFormat::E4M3FN.encode(amax),
            Scaling::Global(global_scale) => {
                let wanted = amax / self.element.max() / global_scale;
                FloatFormat::E4M3FN.encode(wanted.max(FloatFormat::E4M3FN.smallest()))
            }
        };
        Scale { code, real: self.real(code) }
    }

    /// What an element of 1 stands for in a block whose scale has this code.
    #[inline]
    fn real(self, code: u8) -> f32 {
        match (self.scaling, code) {
            (Scaling::PowerOfTwo, 0) => f32::from_bits(1 << 22), // 2^−127 is subnormal
            (Scaling::PowerOfTwo, 255) => f32::NAN,
            (Scaling::PowerOfTwo, _) => f32::from_bits(u32::from(code) << 23),
            (Scaling::Global(global_scale), _) => FloatFormat::E4M3FN.decode(code) * global_scale,
        }
    }

    /// The blocks of some rows.
    fn rows<T>(self, row: usize, data: &[T]) -> impl Iterator<Item = &[T]> {
        data.chunks(row).flat_map(move |row| row.chunks(self.block_size))
    }

    /// How to cut an array into tasks that hold whole blocks.
    fn piece(self, len: usize, row_len: usize) -> Piece {
        if row_len == len || row_len.is_multiple_of(self.block_size) {
            // The ends of rows need no care: the array is as good as one row.
            return Piece { row: PIECE, elements: PIECE, blocks: PIECE / self.block_size };
        }
        let rows = (PIECE / row_len).max(1);
        let blocks = rows * row_len.div_ceil(self.block_size);
        Piece { row: row_len, elements: rows * row_len, blocks }
    }
}

struct Scale {
    code: u8,
    real: f32, // NaN, or finite and positive
}

#[derive(Clone, Copy)]
struct Piece {
    row: usize, // elements after which a block ends even if it is not full
    elements: usize,
    blocks: usize,
}

/// The largest magnitude; NaN if there is one. Bits without their sign are ordered as magnitudes
/// are, then infinity, then NaN, and their maximum is found without branches.
#[inline]
fn block_max(block: &[f32]) -> f32 {
    let bits = block.iter().fold(0, |max, x| max.max((x.to_bits() & MAGNITUDE) as i32)) as u32;
    f32::from_bits(if bits > INFINITY { f32::NAN.to_bits() } else { bits })
}
