//! Arithmetic with denormal numbers: values below 2^-126 are not flushed to zero.
//!
//! `torch.set_flush_denormal`, or a library compiled with fast math, makes a thread flush them, and
//! new threads inherit that. Comparisons would then treat values as zeros that have bins here. So
//! all work on values runs with the processor's default control word.

/// Runs `work` with denormals, and restores the thread's own setting afterwards.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(crate) fn with_denormals<R>(work: impl FnOnce() -> R) -> R {
    struct Before(u32);
    impl Drop for Before {
        fn drop(&mut self) {
            set_control(self.0);
        }
    }
    let control = control();
    if control & !RAISED == DEFAULT {
        return work();
    }
    set_control(DEFAULT);
    let _before = Before(control); // restored after a panic, too
    with_default(work)
}

/// A function that is not inlined, so that the compiler moves no work across the change.
#[cold]
#[inline(never)]
#[cfg(target_arch = "x86_64")]
fn with_default<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// All exceptions masked, round to nearest, no flushing: the default of the processor and of Rust.
#[cfg(target_arch = "x86_64")]
const DEFAULT: u32 = 0x1f80;

/// The flags of exceptions that occurred.
#[cfg(target_arch = "x86_64")]
const RAISED: u32 = 0x3f;

#[inline]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn control() -> u32 {
    let mut control = 0u32;
    // SAFETY: `control` has room for the 32 bits that the instruction writes.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags));
    }
    control
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn set_control(control: u32) {
    // SAFETY: the word is the default, which Rust assumes, or one that the processor had before.
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, readonly));
    }
}

/// Enables denormals in this thread for good. For threads of our pool, which inherit a setting.
pub(crate) fn enable_denormals() {
    #[cfg(target_arch = "x86_64")]
    set_control(DEFAULT);
}

/// Runs `work`; other processors keep their setting.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn with_denormals<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Whether a value compares as zero. Not inlined, so that the comparison stays where it is
    /// called.
    #[inline(never)]
    fn is_zero(x: f32) -> bool {
        std::hint::black_box(x) == 0.0
    }

    #[test]
    fn the_setting_of_the_thread_is_replaced_and_restored() {
        const FLUSHED: u32 = DEFAULT | 1 << 15 | 1 << 6;
        let tiny = f32::from_bits(1);
        set_control(FLUSHED);
        let (outside, inside) = (is_zero(tiny), with_denormals(|| is_zero(tiny)));
        let panicked = std::panic::catch_unwind(|| with_denormals(|| panic!("on purpose")));
        let after = control();
        enable_denormals();
        assert_eq!((outside, inside, panicked.is_err()), (true, false, true));
        assert_eq!((after & !RAISED, is_zero(tiny)), (FLUSHED, false));
    }
}
