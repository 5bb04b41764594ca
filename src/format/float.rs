//! Floats of 8 and 4 bits: values to codes and back, rounding half to even and saturating.
//!
//! The formats are those of ONNX and of numpy's extension types: `float8_e4m3fn` and `float8_e5m2`
//! (Micikevicius et al., "FP8 Formats for Deep Learning", 2022) and `float4_e2m1fn` (OCP
//! Microscaling Formats v1.0, 2023).
//!
//! # How a value is rounded
//!
//! Let m be the mantissa bits of the format. Let e be the exponent of the value, but at least that
//! of the smallest normal number. One step is 2^(e − m). Adding 2^(e + 23 − m) to the magnitude
//! leaves no bits below one step. The addition rounds half to even, and the low bits of the sum are
//! the number of steps. Normal numbers, denormals and a carry into the next exponent are the same
//! case, so the loop has no branches.

const SIGN: u32 = 1 << 31;
const EXPONENT: u32 = 0xff << 23;

/// A floating grid. Codes are in the low bits of a byte: sign, exponent, mantissa.
///
/// | | exponent, mantissa bits | largest | smallest | infinities | NaN |
/// |---|---|---|---|---|---|
/// | `E4M3FN` | 4, 3 | 448 | 2^−9 | none | `0x7f`, `0xff` |
/// | `E5M2` | 5, 2 | 57344 | 2^−16 | `0x7c`, `0xfc` | the codes above them |
/// | `E2M1FN` | 2, 1 | 6 | 0.5 | none | none |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatFormat {
    /// `float8_e4m3fn`: for weights and activations.
    E4M3FN,
    /// `float8_e5m2`: the range of float16 with two mantissa bits.
    E5M2,
    /// `float4_e2m1fn`: the elements of MXFP4 and NVFP4; codes 0…15.
    E2M1FN,
}

impl FloatFormat {
    /// All formats, by name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("float8_e4m3fn", Self::E4M3FN),
        ("float8_e5m2", Self::E5M2),
        ("float4_e2m1fn", Self::E2M1FN),
    ];

    /// The name, as ONNX and numpy's extension types have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::E4M3FN => "float8_e4m3fn",
            Self::E5M2 => "float8_e5m2",
            Self::E2M1FN => "float4_e2m1fn",
        }
    }

    /// Bits of a code: 8 or 4.
    pub fn bits(self) -> u32 {
        match self {
            Self::E4M3FN | Self::E5M2 => 8,
            Self::E2M1FN => 4,
        }
    }

    /// The largest finite value.
    pub fn max(self) -> f32 {
        self.encoding().max
    }

    /// The smallest positive value, which is denormal.
    pub fn smallest(self) -> f32 {
        // One octave below the smallest normal number for each mantissa bit.
        f32::from_bits(self.encoding().first_normal - (self.encoding().mantissa << 23))
    }

    /// The exponent of the largest finite value: 8, 15 or 2.
    pub fn max_exponent(self) -> i32 {
        (self.max().to_bits() >> 23) as i32 - 127
    }

    /// All finite values, ascending; zero occurs once, as +0.
    pub fn levels(self) -> &'static [f32] {
        match self {
            Self::E4M3FN => &E4M3FN_LEVELS,
            Self::E5M2 => &E5M2_LEVELS,
            Self::E2M1FN => &E2M1FN_LEVELS,
        }
    }

    /// The code of the nearest level; of two equally near levels, that with an even code.
    ///
    /// Values beyond the largest finite value saturate, infinities included, as in ONNX
    /// `QuantizeLinear` with `saturate=1`. Zeros, and values that round to zero, keep their sign.
    ///
    /// NaN becomes the NaN of its sign: `0x7f` or `0xff`. In E5M2 it is `0x7e` or `0xfe`, as in
    /// `ml_dtypes`; onnxruntime writes `0x7f` or `0xff`, which also mean NaN. E2M1FN has no NaN: it
    /// becomes a zero of the other sign, as in `ml_dtypes`.
    #[inline]
    pub fn encode(self, x: f32) -> u8 {
        self.encoding().encode(x)
    }

    /// The value of a code. For E2M1FN only the low 4 bits count.
    #[inline]
    pub fn decode(self, code: u8) -> f32 {
        match self {
            Self::E4M3FN => E4M3FN_VALUES[usize::from(code)],
            Self::E5M2 => E5M2_VALUES[usize::from(code)],
            Self::E2M1FN => E2M1FN_VALUES[usize::from(code & 15)],
        }
    }

    /// `decode(encode(x))`, computed without the code.
    #[inline]
    pub fn round(self, x: f32) -> f32 {
        self.encoding().round(x)
    }

    #[inline]
    const fn encoding(self) -> Encoding {
        match self {
            Self::E4M3FN => Encoding::E4M3FN,
            Self::E5M2 => Encoding::E5M2,
            Self::E2M1FN => Encoding::E2M1FN,
        }
    }
}

/// The numbers in which the formats differ.
#[derive(Clone, Copy)]
struct Encoding {
    mantissa: u32,     // bits
    first_normal: u32, // the smallest normal number, as the bits of an f32
    max: f32,
    to_sign: u32,  // shift that moves the sign of an f32 to that of a code
    nan_code: u8,  // of a positive NaN
    nan_bits: u32, // of the value of that code
}

impl Encoding {
    const E4M3FN: Self = Self {
        mantissa: 3,
        first_normal: (127 - 6) << 23,
        max: 448.0,
        to_sign: 24,
        nan_code: 0x7f,
        nan_bits: 0x7fc0_0000,
    };
    const E5M2: Self = Self {
        mantissa: 2,
        first_normal: (127 - 14) << 23,
        max: 57344.0,
        to_sign: 24,
        nan_code: 0x7e,
        nan_bits: 0x7fc0_0000,
    };
    const E2M1FN: Self = Self {
        mantissa: 1,
        first_normal: 127 << 23,
        max: 6.0,
        to_sign: 28,
        nan_code: 0x8,
        nan_bits: SIGN,
    };

    /// The exponent bits, the rounding sum, and the number that was added.
    #[inline]
    fn sum(self, x: f32) -> (u32, f32, f32) {
        let magnitude = x.abs();
        let magnitude = if magnitude > self.max { self.max } else { magnitude };
        let exponent = (magnitude.to_bits() & EXPONENT).max(self.first_normal);
        // Wraps only for NaN, which stays NaN whatever is added.
        let magic = f32::from_bits(exponent.wrapping_add((23 - self.mantissa) << 23));
        (exponent, magnitude + magic, magic)
    }

    #[inline]
    fn encode(self, x: f32) -> u8 {
        let (exponent, sum, magic) = self.sum(x);
        let steps = sum.to_bits().wrapping_sub(magic.to_bits());
        let binades = exponent.wrapping_sub(self.first_normal) >> 23;
        let code = (binades << self.mantissa).wrapping_add(steps);
        let code = if x.is_nan() { u32::from(self.nan_code) } else { code };
        (code ^ ((x.to_bits() & SIGN) >> self.to_sign)) as u8
    }

    #[inline]
    fn round(self, x: f32) -> f32 {
        let (_, sum, magic) = self.sum(x);
        let rounded = (sum - magic).to_bits();
        let rounded = if x.is_nan() { self.nan_bits } else { rounded };
        f32::from_bits(rounded ^ (x.to_bits() & SIGN))
    }

    /// The values of all codes below `N`, by definition.
    const fn values<const N: usize>(self, infinities: bool) -> [f32; N] {
        let step = f32::from_bits(self.first_normal - (self.mantissa << 23));
        let (half, hidden) = (N / 2, 1 << self.mantissa);
        let mut values = [0.0; N];
        let mut code = 0;
        while code < half {
            let (exponent, mantissa) = (code >> self.mantissa, code & (hidden - 1));
            let mut value = if exponent == 0 {
                mantissa as f32 * step
            } else {
                (hidden + mantissa) as f32 * step * (1u64 << (exponent - 1)) as f32
            };
            if value > self.max {
                value = if infinities && mantissa == 0 { f32::INFINITY } else { f32::NAN };
            }
            values[code] = f32::from_bits(value.to_bits() & !SIGN);
            values[code + half] = f32::from_bits(value.to_bits() | SIGN);
            code += 1;
        }
        values
    }
}

/// The finite values of a table of all codes, ascending, with one zero.
const fn levels<const N: usize, const L: usize>(values: &[f32; N]) -> [f32; L] {
    let mut levels = [0.0; L];
    let mut code = 1;
    while code <= L / 2 {
        levels[L / 2 - code] = -values[code];
        levels[L / 2 + code] = values[code];
        code += 1;
    }
    levels
}

static E4M3FN_VALUES: [f32; 256] = Encoding::E4M3FN.values(false);
static E5M2_VALUES: [f32; 256] = Encoding::E5M2.values(true);
static E2M1FN_VALUES: [f32; 16] = Encoding::E2M1FN.values(false);
static E4M3FN_LEVELS: [f32; 253] = levels(&Encoding::E4M3FN.values::<256>(false));
static E5M2_LEVELS: [f32; 247] = levels(&Encoding::E5M2.values::<256>(true));
static E2M1FN_LEVELS: [f32; 15] = levels(&Encoding::E2M1FN.values::<16>(false));
