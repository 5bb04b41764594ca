//! Wider vector instructions where the processor has them, chosen at run time.
//!
//! Wheels are built for every x86-64 processor, whose vectors hold four `f32`. The loops that gain
//! are written once, in plain Rust that the compiler can vectorise, and compiled twice; integer
//! work, comparisons and conversions give the same bits either way.

/// Runs `work`, compiled for AVX2 where the processor has it.
///
/// What `work` calls must be `#[inline(always)]` to be compiled with it.
#[inline]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,f16c")]
    fn wide<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
    if wide_is_there() {
        // SAFETY: the processor has the features that `wide` is compiled for.
        return unsafe { wide(work) };
    }
    work()
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
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("f16c");
            KNOWN.store(if wide { YES } else { NO }, Relaxed);
            wide
        }
        known => known == YES,
    }
}

/// Environment variable that keeps to the code for every processor, for tests and comparisons.
#[cfg(target_arch = "x86_64")]
pub const GENERIC_VARIABLE: &str = "QUANTCAL_GENERIC";

/// Runs `work`: other processors have one version.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    work()
}
