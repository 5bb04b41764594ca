//! Wider vector instructions where the processor has them, chosen at run time.
//!
//! Wheels are built for every x86-64 processor, whose vectors hold four `f32`. The loops that gain
//! are written once, in plain Rust that the compiler can vectorise, and compiled twice; integer
//! work, comparisons and conversions give the same bits either way.

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
