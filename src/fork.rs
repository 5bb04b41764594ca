//! Locks that no other thread holds when the process forks.
//!
//! The child of a `fork` has the forking thread only. A lock that another thread held would stay
//! locked in the child, and its data might be half changed. So the gate is closed before a fork.
//! [`close`] waits until no thread holds a [`Lock`], and no thread gets one until the gate opens
//! again, in the parent and in the child. The child finds every observation complete or not begun.
//!
//! The gate consists of two numbers. It has no queue of waiting threads, which the child would
//! inherit.

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
/// Number of threads that hold a lock.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// How a thread waits for the gate, if the application has set that.
static WAITER: OnceLock<Waiter> = OnceLock::new();

/// Runs a function that waits, once.
pub type Waiter = fn(&(dyn Fn() + Sync));

thread_local! {
    /// Number of locks that this thread holds, plus one while it forks, so that it passes the gate.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Closes the gate and waits until no other thread holds a [`Lock`]. Call it before a fork. If
/// another thread is forking, it waits for that first.
pub fn close() {
    while CLOSED.swap(true, SeqCst) {
        pause();
    }
    DEPTH.set(DEPTH.get() + 1);
    while INSIDE.load(SeqCst) > 0 {
        pause();
    }
}

/// Opens the gate in the parent. Call it in the thread that closed the gate.
pub fn open_in_parent() {
    DEPTH.set(DEPTH.get().saturating_sub(1));
    CLOSED.store(false, SeqCst);
}

/// Opens the gate in the child.
pub fn open_in_child() {
    INSIDE.store(0, SeqCst); // other threads, gone now, may have been counted while they retreated
    open_in_parent();
}

/// Sets how threads wait for a closed gate, so that they can release what the forking thread needs.
/// Only the first call has an effect.
pub fn wait_with(waiter: Waiter) {
    let _ = WAITER.set(waiter);
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
    match WAITER.get() {
        Some(waiter) => waiter(&until_open),
        None => until_open(),
    }
}

/// The permission of a thread to hold locks.
#[derive(Debug)]
struct Pass {
    of_this_thread: PhantomData<*const ()>,
}

impl Pass {
    #[inline]
    fn get() -> Self {
        DEPTH.with(|depth| {
            // A thread that holds a lock may take another. The gate waits for it, so it must not
            // wait for the gate.
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

/// Retreats, and enters again when the gate is open.
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

/// A mutex that no other thread holds when the process forks.
///
/// Its holder must not wait for anything that the forking thread holds, such as Python's
/// interpreter.
#[derive(Debug, Default)]
pub struct Lock<T> {
    mutex: Mutex<T>,
}

impl<T> Lock<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self { mutex: Mutex::new(value) }
    }

    /// Waits for the lock, and for a fork in progress. It can be locked after a holder has
    /// panicked.
    #[inline]
    pub fn lock(&self) -> Locked<'_, T> {
        let pass = Pass::get();
        let guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { guard, _pass: pass }
    }
}

/// Access to the data of a [`Lock`] until it is dropped.
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

    // A single test, since there is one gate for the process.
    #[test]
    fn a_closed_gate_admits_only_threads_that_hold_a_lock() {
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
                assert!(!closed.load(Relaxed), "closing waits for threads that hold a lock");
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
                assert!(!closed.load(Relaxed), "locking waits until the gate is open");
            });
            thread::sleep(Duration::from_millis(20));
            assert_eq!((*first.lock(), *second.lock()), (1, 1), "the closing thread can lock");
            closed.store(false, Relaxed);
            open_in_parent();
        });
        assert_eq!((*first.lock(), *second.lock()), (2, 1));
    }
}
