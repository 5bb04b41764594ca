//! Wider vector instructions where the processor has them, chosen at run time.
//!
//! Wheels run on every x86-64 processor, whose basic vectors hold four `f32`. The loops that gain
//! from wider ones are written once, in plain Rust that the compiler vectorizes, and compiled
//! twice. Integer work, comparisons and conversions give the same bits in both versions.
//!
//! The module also has prefetching, a word that the compiler treats as opaque, the one loop written
//! in vector instructions (`zeros.rs`), and the setting of denormals that all loops need
//! (`denormals.rs`).

mod denormals;
mod zeros;

pub(crate) use denormals::{enable_denormals, with_denormals};
pub(crate) use zeros::{without_zero_bits, without_zeros};

/// Work that is compiled twice.
///
/// `run` and all that it calls must be `#[inline(always)]`; otherwise there is only one version. It
/// is a trait because closures cannot have that attribute.
pub(crate) trait Work {
    /// The result of the work.
    type Output;

    /// Runs the work.
    fn run(self) -> Self::Output;
}

/// Below this many numbers, adding them takes less time than [`dispatch`].
pub(crate) const FEW: usize = 128;

/// Runs the work: the version for AVX2 where the processor has it.
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

/// Environment variable that selects the generic version, for tests and comparisons.
#[cfg(target_arch = "x86_64")]
pub const GENERIC_VARIABLE: &str = "QUANTCAL_GENERIC";

/// Runs the work; other processors have one version.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn dispatch<W: Work>(work: W) -> W::Output {
    work.run()
}

/// Bytes from the values that are read to those that are prefetched: two pages.
///
/// The processor prefetches by itself, but not across the end of a page, and counting keeps it so
/// busy that it reaches the next page late. Without prefetching, float32 took 0.85 instead of 0.53
/// ns a value on one core.
const AHEAD: usize = 8192;

/// Prefetches the memory two pages after `values`, into the second-level cache.
///
/// The first-level cache is for the counters: prefetching into it took 0.326 to 0.350 ns a value,
/// into the second level 0.305, which is what values in the cache take.
#[inline(always)]
pub(crate) fn fetch_ahead<T>(values: &[T]) {
    let start = values.as_ptr().cast::<i8>().wrapping_add(AHEAD);
    fetch_from::<SECOND>(start, size_of_val(values));
}

/// Prefetches `values`.
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
        // SAFETY: a hint without visible effects, which never faults, whatever the address.
        unsafe { _mm_prefetch::<CACHE>(start.wrapping_add(offset)) };
    }
}

/// Does nothing: other processors prefetch by themselves.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn fetch_from<const CACHE: i32>(_: *const i8, _: usize) {}

/// The same word, but unknown to the compiler. So the compiler takes the word apart with shifts; it
/// would otherwise build a vector and extract values from it, which is slower.
#[inline(always)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[allow(unsafe_code)]
pub(crate) fn opaque(mut word: u64) -> u64 {
    // SAFETY: there is no instruction, only a comment.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) word, options(pure, nomem, nostack, preserves_flags));
    }
    word
}

/// The same word; for other processors the compiler decides.
#[inline(always)]
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn opaque(word: u64) -> u64 {
    word
}
