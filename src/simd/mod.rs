//! Wider vector instructions where the processor has them, chosen at run time.
//!
//! Wheels are built for every x86-64 processor, whose vectors hold four `f32`. The loops that gain
//! are written once, in plain Rust that the compiler can vectorise, and compiled twice; integer
//! work, comparisons and conversions give the same bits either way.
//!
//! Beside it stand the request to fetch memory ahead of time, a word that is kept a word, the one
//! loop that is written in the processor's own instructions (`zeros.rs`), and the arithmetic that all of
//! it expects (`arithmetic.rs`).

mod arithmetic;
mod zeros;

pub(crate) use arithmetic::{use_subnormals, with_subnormals};
pub(crate) use zeros::{without_zero_bits, without_zeros};

/// Work that is worth compiling twice.
///
/// `run`, and what it calls, must be `#[inline(always)]`, or it is compiled only once. (It is a
/// trait because closures cannot be told so.)
pub(crate) trait Work {
    /// What the work results in.
    type Output;

    /// Does the work.
    fn run(self) -> Self::Output;
}

/// Numbers that are fewer than these are added faster than [`dispatch`] takes.
pub(crate) const FEW: usize = 128;

/// Does the work, compiled for AVX2 where the processor has it.
#[inline]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) fn dispatch<W: Work>(work: W) -> W::Output {
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    fn wide<W: Work>(work: W) -> W::Output {
        work.run()
    }
    if wide_is_there() {
        // SAFETY: the processor has the features that `wide` is compiled for.
        return unsafe { wide(work) };
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
fn wide_is_there() -> bool {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
    const NO: u8 = 1;
    const YES: u8 = 2;
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Relaxed) {
        0 => {
            let wide = std::env::var_os(GENERIC_VARIABLE).is_none()
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt");
            KNOWN.store(if wide { YES } else { NO }, Relaxed);
            wide
        }
        known => known == YES,
    }
}

/// Environment variable that keeps to the code for every processor, for tests and comparisons.
#[cfg(target_arch = "x86_64")]
pub const GENERIC_VARIABLE: &str = "QUANTCAL_GENERIC";

/// Does the work: other processors have one version.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn dispatch<W: Work>(work: W) -> W::Output {
    work.run()
}

/// Bytes between what is read and what is fetched: two pages.
const AHEAD: usize = 8192;

/// Asks for the memory that lies two pages behind `values`, into the second-level cache: the first is for
/// the counters.
///
/// The processor fetches ahead by itself, but not across the end of a page; and the counters keep
/// it so busy that it comes to the next page late.
#[inline(always)]
pub(crate) fn fetch_ahead<T>(values: &[T]) {
    let start = values.as_ptr().cast::<i8>().wrapping_add(AHEAD);
    fetch_from::<SECOND>(start, size_of_val(values));
}

/// Asks for the memory of `values` itself.
#[inline(always)]
pub(crate) fn fetch<T>(values: &[T]) {
    fetch_from::<FIRST>(values.as_ptr().cast(), size_of_val(values));
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0 as FIRST, _MM_HINT_T1 as SECOND};

#[cfg(not(target_arch = "x86_64"))]
const FIRST: i32 = 1;
#[cfg(not(target_arch = "x86_64"))]
const SECOND: i32 = 2;

#[inline(always)]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn fetch_from<const CACHE: i32>(start: *const i8, bytes: usize) {
    use std::arch::x86_64::_mm_prefetch;
    const LINE: usize = 64;
    for offset in (0..bytes).step_by(LINE) {
        // SAFETY: a hint that reads nothing the program can see, and never faults, wherever it
        // points.
        unsafe { _mm_prefetch::<CACHE>(start.wrapping_add(offset)) };
    }
}

/// Nothing: other processors are left to themselves.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn fetch_from<const CACHE: i32>(_: *const i8, _: usize) {}

/// The word itself, of which the compiler knows nothing else: so that it takes it apart with shifts,
/// instead of making a vector of several and taking values out of that, which costs more.
#[inline(always)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[allow(unsafe_code)]
pub(crate) fn opaque(mut word: u64) -> u64 {
    // SAFETY: no instruction is there.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    word
}

/// The word itself: other processors are left to their compiler.
#[inline(always)]
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn opaque(word: u64) -> u64 {
    word
}
