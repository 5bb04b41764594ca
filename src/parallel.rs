//! Threads: how many, in which pool, and what happens after a `fork`.
//!
//! A rayon pool does not survive `fork`: the child has its memory but not its threads, and would
//! wait for them forever. Data loaders, Dask and Ray do fork. So the pool is stored with the id of
//! the process that built it, and a child builds its own at first use.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use rayon::{Scope, ThreadPool, ThreadPoolBuilder};

use crate::{
    error::{Error, Result},
    simd,
};

struct Slot {
    pid: u32,
    pool: Arc<ThreadPool>,
}

static SLOT: Mutex<Option<Slot>> = Mutex::new(None);

/// Largest number of threads that can be set.
pub const MAX_THREADS: usize = 1024;

/// Environment variable that sets the number of threads before the first use.
pub const NUM_THREADS_VARIABLE: &str = "QUANTCAL_NUM_THREADS";

/// Adds every item to a state: on this thread and, if `parallel`, on others at the same time.
///
/// Each thread starts with a state from `init` and takes the next item until none is left. Returns
/// the states of all threads, at least one. Which thread takes which item is random, so the
/// caller's result must not depend on it. Sums of counts do not.
pub(crate) fn fold<I, S>(
    parallel: bool,
    mut items: I,
    init: impl Fn() -> S + Sync,
    add: impl Fn(&mut S, I::Item) + Sync,
) -> Vec<S>
where
    I: Iterator + Send,
    S: Send,
{
    let all = |next: &mut dyn FnMut() -> Option<I::Item>| {
        let mut state = init();
        let mut work = || {
            while let Some(item) = next() {
                add(&mut state, item);
            }
        };
        let work: &mut dyn FnMut() = &mut work; // one copy of the loop
        simd::with_denormals(work); // the same results, whatever the setting of each thread
        state
    };
    let limit = items.size_hint().1.unwrap_or(usize::MAX);
    let threads = threads(parallel).min(limit.max(1));
    if threads == 1 {
        return vec![all(&mut || items.next())];
    }
    let items = Mutex::new(items);
    on_each(threads, || all(&mut || items.lock().unwrap_or_else(PoisonError::into_inner).next()))
}

/// Calls `work` with every item, as [`fold`] does.
pub(crate) fn for_each<I: Iterator + Send>(
    parallel: bool,
    items: I,
    work: impl Fn(I::Item) + Sync,
) {
    fold(parallel, items, || (), |(), item| work(item));
}

/// Maps every item, as [`fold`] does; the results are in the order of the items.
pub(crate) fn map<I: Iterator + Send, R: Send>(
    parallel: bool,
    items: I,
    work: impl Fn(I::Item) -> R + Sync,
) -> Vec<R> {
    map_with(parallel, items, |(): &mut (), item| work(item))
}

/// As [`map`], with buffers for each thread.
pub(crate) fn map_with<I, B, R>(
    parallel: bool,
    items: I,
    work: impl Fn(&mut B, I::Item) -> R + Sync,
) -> Vec<R>
where
    I: Iterator + Send,
    B: Default + Send,
    R: Send,
{
    let made = fold(
        parallel,
        items.enumerate(),
        || (B::default(), Vec::new()),
        |(buffers, made), (number, item)| made.push((number, work(buffers, item))),
    );
    let mut made: Vec<(usize, R)> = made.into_iter().flat_map(|(_, made)| made).collect();
    made.sort_unstable_by_key(|&(number, _)| number);
    made.into_iter().map(|(_, result)| result).collect()
}

/// How many threads take part. They are those of this library's pool, or those of the rayon pool in
/// which the caller runs.
pub(crate) fn threads(parallel: bool) -> usize {
    if !parallel || ALONE.get() {
        return 1;
    }
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => num_threads(),
    }
}

/// Runs `work` on this thread and `threads - 1` others at the same time. Returns all results.
///
/// This thread works too, instead of sleeping until others have finished. A sleeping processor
/// takes longer to wake than 262,144 values take to count.
fn on_each<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    fn share<'a>(scope: &Scope<'a>, threads: usize, work: &'a (impl Fn() + Sync)) {
        (1..threads).for_each(|_| scope.spawn(|_| work()));
        work();
    }
    let made = Mutex::new(Vec::with_capacity(threads));
    let work = || {
        let part = work();
        made.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    };
    if rayon::current_thread_index().is_some() {
        rayon::in_place_scope(|scope| share(scope, threads, &work));
    } else if let Some(pool) = pool() {
        pool.in_place_scope(|scope| share(scope, threads, &work));
    } else {
        work();
    }
    made.into_inner().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `op` on this thread only, for work that is already a share of other work.
#[cfg_attr(not(feature = "onnxruntime"), allow(dead_code))] // only the operator needs it
pub(crate) fn alone<R>(op: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true)); // restored after a panic, too
    op()
}

/// Sets the number of threads for the whole process.
///
/// # Errors
/// [`Error::Threads`] for 0, more than [`MAX_THREADS`], or more than the system provides.
pub fn set_num_threads(threads: usize) -> Result<()> {
    let refused = || Error::Threads(threads as i64);
    if !(1..=MAX_THREADS).contains(&threads) {
        return Err(refused());
    }
    let pool = build(threads).ok_or_else(refused)?;
    with_slot(|slot| replace(slot, pool)).ok_or_else(refused)
}

/// Number of threads that take part in large work.
pub fn num_threads() -> usize {
    pool().map_or(1, |pool| pool.current_num_threads())
}

fn pool() -> Option<Arc<ThreadPool>> {
    with_slot(current).flatten()
}

/// Runs `work` on the slot; `None` if it stays locked.
fn with_slot<R>(work: impl FnOnce(&mut Option<Slot>) -> R) -> Option<R> {
    // A fork may have copied the lock while another thread of the parent held it. No thread of the
    // child will open it, so the wait is bounded. Otherwise it is held for nanoseconds only.
    for _ in 0..10_000 {
        match SLOT.try_lock() {
            Ok(mut slot) => return Some(work(&mut slot)),
            Err(TryLockError::Poisoned(poisoned)) => return Some(work(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    None
}

fn current(slot: &mut Option<Slot>) -> Option<Arc<ThreadPool>> {
    match slot {
        Some(Slot { pid, pool }) if *pid == std::process::id() => Some(Arc::clone(pool)),
        _ => {
            let threads = slot.as_ref().map_or_else(default_threads, |s| {
                s.pool.current_num_threads() // a child keeps its parent's setting
            });
            let pool = build(threads)?;
            replace(slot, Arc::clone(&pool));
            Some(pool)
        }
    }
}

fn build(threads: usize) -> Option<Arc<ThreadPool>> {
    let name = |i| format!("quantcal-{i}");
    let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(name);
    pool.start_handler(|_| simd::enable_denormals()).build().ok().map(Arc::new)
}

fn replace(slot: &mut Option<Slot>, pool: Arc<ThreadPool>) {
    let pid = std::process::id();
    if let Some(old) = slot.replace(Slot { pid, pool })
        && old.pid != pid
    {
        // Dropping it would wait for threads that exist only in the parent.
        std::mem::forget(old);
    }
}

fn default_threads() -> usize {
    std::env::var(NUM_THREADS_VARIABLE)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|n| (1..=MAX_THREADS).contains(n))
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// The items of a hundred that each thread took.
    fn taken() -> Vec<Vec<usize>> {
        fold(true, 0..100, Vec::new, Vec::push)
    }

    #[test]
    fn every_item_is_taken_once_by_some_thread() {
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for (threads, parts) in
            [(3, pool.install(taken)), (1, alone(taken)), (num_threads(), taken())]
        {
            assert_eq!(parts.len(), threads);
            let mut all = parts.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..100));
        }
        assert_eq!(pool.install(|| fold(true, 0..2, || (), |(), _| ()).len()), 2);
        assert_eq!(pool.install(|| fold(true, 0..0, || (), |(), _: u32| ()).len()), 1);
        let squares = |number: u32| number * number;
        let expected: Vec<u32> = (0..100).map(|number| number * number).collect();
        assert_eq!(pool.install(|| map(true, 0..100, squares)), expected);
        assert_eq!(map(false, 0..100, squares), expected);
        assert_eq!(pool.install(|| threads(true)), 3);
        assert_eq!((threads(false), alone(|| threads(true))), (1, 1));
    }

    #[test]
    fn a_panic_of_one_thread_reaches_the_caller_after_all_have_finished() {
        let done = AtomicUsize::new(0);
        let caught = std::panic::catch_unwind(|| {
            on_each(4, || {
                assert!(done.fetch_add(1, Relaxed) != 2, "on purpose");
            })
        });
        assert!(caught.is_err());
        assert_eq!(done.load(Relaxed), 4);
    }
}
