//! The arithmetic that everything here counts on: values of less than 2^-126 are values.
//!
//! A thread may be told to take them for zeros, by `torch.set_flush_denormal` or by a library that was
//! compiled for it; comparisons would then call zeros what has bins of its own. Threads inherit it.

/// Does the work with the processor's usual arithmetic; the thread's own is put back.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(crate) fn with_subnormals<R>(work: impl FnOnce() -> R) -> R {
    struct Before(u32);
    impl Drop for Before {
        fn drop(&mut self) {
            set_control(self.0);
        }
    }
    let control = control();
    if control & !RAISED == USUAL {
        return work();
    }
    set_control(USUAL);
    let _before = Before(control); // put back after a panic, too
    with_usual(work)
}

/// Of its own, so that nothing of the work is done before or after.
#[cold]
#[inline(never)]
#[cfg(target_arch = "x86_64")]
fn with_usual<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Every exception masked, to the nearest, nothing flushed.
#[cfg(target_arch = "x86_64")]
const USUAL: u32 = 0x1f80;

/// What tells of exceptions that there were.
#[cfg(target_arch = "x86_64")]
const RAISED: u32 = 0x3f;

#[inline]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn control() -> u32 {
    let mut control = 0u32;
    // SAFETY: the word is written where there is one.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags));
    }
    control
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn set_control(control: u32) {
    // SAFETY: it is a word that the processor had, or the usual one, which Rust takes for granted.
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, readonly));
    }
}

/// Gives this thread the usual arithmetic for good: one of ours, that inherited another.
pub(crate) fn use_subnormals() {
    #[cfg(target_arch = "x86_64")]
    set_control(USUAL);
}

/// Does the work: other processors are taken as they are.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn with_subnormals<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Whether a value counts as zero. Not inlined: the compiler may compare sooner or later.
    #[inline(never)]
    fn is_zero(x: f32) -> bool {
        std::hint::black_box(x) == 0.0
    }

    #[test]
    fn the_threads_own_arithmetic_is_put_aside_and_put_back() {
        const FLUSHED: u32 = USUAL | 1 << 15 | 1 << 6;
        let tiny = f32::from_bits(1);
        set_control(FLUSHED);
        let (outside, inside) = (is_zero(tiny), with_subnormals(|| is_zero(tiny)));
        let panicked = std::panic::catch_unwind(|| with_subnormals(|| panic!("on purpose")));
        let after = control();
        use_subnormals();
        assert_eq!((outside, inside, panicked.is_err()), (true, false, true));
        assert_eq!((after & !RAISED, is_zero(tiny)), (FLUSHED, false));
    }
}
