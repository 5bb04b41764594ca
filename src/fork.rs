//! Locks that no fork copies while another thread holds them.
//!
//! The child of a `fork` has the forking thread only. A lock that another thread held stays locked in the child
//! for ever, and what it guards may be half changed. So who forks closes the gate before: [`close`] waits until
//! nobody holds such a [`Lock`], and nobody gets one until the gate is open again, in the parent and in the
//! child. The child then finds every observation complete or not begun.
//!
//! The gate is made of two numbers, without a queue of waiting threads, which the child would inherit.

use std::{
    cell::Cell,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

static CLOSED: AtomicBool = AtomicBool::new(false);
/// Threads that hold a lock.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// What a thread waits through, where more than waiting is to be done.
static THROUGH: OnceLock<Through> = OnceLock::new();

/// Runs what it is given, once.
pub type Through = fn(&(dyn Fn() + Sync));

thread_local! {
    /// Locks that this thread holds; one more while it forks, as it need not wait for itself.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Closes the gate and waits until no other thread holds a [`Lock`]. To be called before a fork; while another
/// thread forks, it waits for that.
pub fn close() {
    while CLOSED.swap(true, SeqCst) {
        pause();
    }
    DEPTH.set(DEPTH.get() + 1);
    while INSIDE.load(SeqCst) > 0 {
        pause();
    }
}

/// Opens the gate again, in the parent, in the thread that closed it.
pub fn open_in_parent() {
    DEPTH.set(DEPTH.get().saturating_sub(1));
    CLOSED.store(false, SeqCst);
}

/// Opens the gate in the child.
pub fn open_in_child() {
    INSIDE.store(0, SeqCst); // threads that found it closed may have been on their way back
    open_in_parent();
}

/// Sets what threads wait through when they find the gate closed: to give up what the forking thread needs.
/// The first call counts.
pub fn wait_through(through: Through) {
    let _ = THROUGH.set(through);
}

fn pause() {
    thread::sleep(Duration::from_micros(50));
}

#[cold]
fn wait() {
    let until_open = || {
        while CLOSED.load(SeqCst) {
            pause();
        }
    };
    match THROUGH.get() {
        Some(through) => through(&until_open),
        None => until_open(),
    }
}

/// A thread's leave to hold locks.
#[derive(Debug)]
struct Pass {
    of_this_thread: PhantomData<*const ()>,
}

impl Pass {
    #[inline]
    fn get() -> Self {
        DEPTH.with(|depth| {
            // Who holds a lock may take another: to wait for the gate would be to wait for oneself.
            if depth.get() == 0 {
                INSIDE.fetch_add(1, SeqCst);
                if CLOSED.load(SeqCst) {
                    enter_later();
                }
            }
            depth.set(depth.get() + 1);
        });
        Self { of_this_thread: PhantomData }
    }
}

/// Comes back in when the gate is open.
#[cold]
fn enter_later() {
    loop {
        INSIDE.fetch_sub(1, SeqCst);
        wait();
        INSIDE.fetch_add(1, SeqCst);
        if !CLOSED.load(SeqCst) {
            return;
        }
    }
}

impl Drop for Pass {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|depth| {
            depth.set(depth.get() - 1);
            if depth.get() == 0 {
                INSIDE.fetch_sub(1, SeqCst);
            }
        });
    }
}

/// A mutex that nobody holds when the process forks.
///
/// It must not be held while waiting for anything that the forking thread holds, such as Python's interpreter.
#[derive(Debug, Default)]
pub struct Lock<T> {
    mutex: Mutex<T>,
}

impl<T> Lock<T> {
    /// A lock that is open.
    pub const fn new(value: T) -> Self {
        Self { mutex: Mutex::new(value) }
    }

    /// Waits for the lock, and for a fork that is under way. A panic of another holder does not matter.
    #[inline]
    pub fn lock(&self) -> Locked<'_, T> {
        let pass = Pass::get();
        let guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { guard, _pass: pass }
    }
}

/// What a [`Lock`] guards, until it is dropped.
#[derive(Debug)]
pub struct Locked<'a, T> {
    guard: MutexGuard<'a, T>, // dropped before the pass is
    _pass: Pass,
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    // One test: the gate is one for the whole process.
    #[test]
    fn a_closed_gate_lets_nobody_in_but_those_who_are_inside() {
        let (first, second) = (Lock::new(0), Lock::new(0));
        let (inside, closing, closed) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut guard = first.lock();
                inside.store(true, Relaxed);
                while !closing.load(Relaxed) {
                    pause();
                }
                thread::sleep(Duration::from_millis(20));
                assert!(!closed.load(Relaxed), "it waits for those who are inside");
                *second.lock() += 1; // may take another lock
                *guard += 1;
            });
            while !inside.load(Relaxed) {
                pause();
            }
            closing.store(true, Relaxed);
            close();
            closed.store(true, Relaxed);
            scope.spawn(|| {
                *first.lock() += 1;
                assert!(!closed.load(Relaxed), "it waits until the gate is open");
            });
            thread::sleep(Duration::from_millis(20));
            assert_eq!((*first.lock(), *second.lock()), (1, 1), "who closed it need not wait");
            closed.store(false, Relaxed);
            open_in_parent();
        });
        assert_eq!((*first.lock(), *second.lock()), (2, 1));
    }
}
