//! Wider vector instructions where the processor has them, chosen at run time.
//!
//! Wheels are built for every x86-64 processor, whose vectors hold four `f32`. The loops that gain
//! are written once, in plain Rust that the compiler can vectorise, and compiled twice; integer
//! work, comparisons and conversions give the same bits either way.
//!
//! Beside it stands the request to fetch memory ahead of time.

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

/// Bytes between what is read and what is fetched: a page. From 2 to 16 KiB it makes no difference.
const AHEAD: usize = 4096;

/// Asks for the memory that lies one page behind `values`.
///
/// The processor fetches ahead by itself, but not across the end of a page; and the counters keep
/// it so busy that it comes to the next page late.
#[inline(always)]
pub(crate) fn fetch_ahead<T>(values: &[T]) {
    fetch_from(values.as_ptr().cast::<i8>().wrapping_add(AHEAD), size_of_val(values));
}

/// Asks for the memory of `values` itself.
#[inline(always)]
pub(crate) fn fetch<T>(values: &[T]) {
    fetch_from(values.as_ptr().cast(), size_of_val(values));
}

#[inline(always)]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn fetch_from(start: *const i8, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE: usize = 64;
    for offset in (0..bytes).step_by(LINE) {
        // SAFETY: a hint that reads nothing the program can see, and never faults, wherever it
        // points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
    }
}

/// Nothing: other processors are left to themselves.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn fetch_from(_: *const i8, _: usize) {}
