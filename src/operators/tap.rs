//! The statistics that an operator records into, and how it finds them.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use super::runtime::OrtResult;
use crate::{
    BufferedStats, Error, Histogram, Result,
    float::{Element, are_finite},
    fork::{Lock, Locked},
    parallel,
};

/// The statistics of one tensor, for an operator.
#[derive(Debug)]
pub struct Tap {
    name: String,
    stats: Arc<Lock<BufferedStats>>,
    finite_only: bool,
}

impl Tap {
    /// Records the tensor `name` into `stats`. With `finite_only`, it refuses NaN and infinities.
    pub fn new(name: String, stats: Arc<Lock<BufferedStats>>, finite_only: bool) -> Self {
        Self { name, stats, finite_only }
    }

    /// Name of the tensor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds one observation, on this thread only.
    ///
    /// # Errors
    /// [`Error::NonFinite`], [`Error::TooMany`]; nothing is recorded then.
    pub fn observe<T: Element>(&self, values: &[T]) -> Result<()> {
        if self.finite_only && !are_finite(values) {
            return refuse(values);
        }
        let mut stats = self.stats.lock();
        stats.check_room(values.len() as u64, 1)?;
        parallel::alone(|| stats.observe(values));
        Ok(())
    }

    /// Adds one observation in shares. `share_out` is given a number of shares and a function that
    /// records one of them; it must call this once for each share, from any threads.
    ///
    /// The lock is held until all shares are recorded, so that no one sees half an observation.
    ///
    /// # Errors
    /// As [`observe`](Self::observe), and the error that `share_out` returns. There is no
    /// observation then, but the shares that it has recorded stay in the histogram.
    pub(super) fn observe_shared<T: Element>(
        &self,
        values: &[T],
        shares: usize,
        share_out: impl Fn(usize, &(dyn Fn(usize) + Sync)) -> OrtResult<()>,
    ) -> OrtResult<()> {
        let parts: Vec<&[T]> = values.chunks(values.len().div_ceil(shares).max(1)).collect();
        let share_out = |work: &(dyn Fn(usize) + Sync)| share_out(parts.len(), work);
        if self.finite_only {
            let all_finite = AtomicBool::new(true);
            share_out(&|part| {
                all_finite.fetch_and(are_finite(parts[part]), Ordering::Relaxed);
            })?;
            if !all_finite.into_inner() {
                return refuse(values).map_err(|error| error.to_string());
            }
        }
        let mut stats = self.stats.lock();
        let room = stats.check_room(values.len() as u64, 1);
        room.map_err(|error| error.to_string())?;
        stats.observe_parts(&parts, share_out)
    }
}

/// The error for values that are not all finite.
fn refuse<T: Element>(values: &[T]) -> Result<()> {
    parallel::alone(|| Histogram::of(values)).refuse_non_finite()
}

static OPEN: LazyLock<Lock<HashMap<i64, Vec<Arc<Tap>>>>> = LazyLock::new(Lock::default);

fn open() -> Locked<'static, HashMap<i64, Vec<Arc<Tap>>>> {
    OPEN.lock()
}

/// Taps registered under a number, for the operators of a session that is being opened.
///
/// An open session holds its taps itself, so this can be dropped.
#[derive(Debug)]
pub struct Taps {
    number: i64,
}

impl Taps {
    /// Registers taps under a new number.
    pub fn new(taps: impl IntoIterator<Item = Tap>) -> Self {
        static NEXT: AtomicI64 = AtomicI64::new(1); // never used twice
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        open().insert(number, taps.into_iter().map(Arc::new).collect());
        Self { number }
    }

    /// The number, which the nodes have as an attribute.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Finds a tap by the number and its position.
    ///
    /// # Errors
    /// [`Error::NoTap`] if there is none, as for a graph that was saved and opened again later.
    pub(super) fn find(number: i64, position: i64) -> Result<Arc<Tap>> {
        let found = open().get(&number).and_then(|taps| {
            let position = usize::try_from(position).ok()?;
            taps.get(position).cloned()
        });
        found.ok_or(Error::NoTap { number, position })
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        open().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tap(finite_only: bool) -> (Tap, Arc<Lock<BufferedStats>>) {
        let stats = Arc::default();
        (Tap::new("x".into(), Arc::clone(&stats), finite_only), stats)
    }

    #[test]
    fn taps_are_found_until_they_are_dropped() {
        let taps = Taps::new([tap(false).0, Tap::new("y".into(), Arc::default(), true)]);
        let other = Taps::new([tap(false).0]);
        assert_ne!(taps.number(), other.number());
        assert_eq!(Taps::find(taps.number(), 1).unwrap().name(), "y");
        for position in [-1, 2, i64::MIN, i64::MAX] {
            let number = taps.number();
            let refused = Taps::find(number, position).unwrap_err();
            assert_eq!(refused, Error::NoTap { number, position });
        }
        let number = taps.number();
        drop(taps);
        assert!(Taps::find(number, 0).is_err());
        assert!(Taps::find(other.number(), 0).is_ok());
    }

    /// Runs all shares at the same time, like the threads of the runtime, the last one first.
    #[expect(clippy::unnecessary_wraps, reason = "the runtime may fail")]
    fn at_once(shares: usize, work: &(dyn Fn(usize) + Sync)) -> OrtResult<()> {
        std::thread::scope(|scope| {
            (0..shares).rev().for_each(|share| drop(scope.spawn(move || work(share))));
        });
        Ok(())
    }

    #[test]
    fn an_observation_counted_in_shares_is_the_same() {
        let values: Vec<f32> = (0..50_000).map(|i| (i as f32).sin()).collect();
        for finite_only in [false, true] {
            for shares in [1, 2, 7, 300] {
                let ((whole, a), (shared, b)) = (tap(finite_only), tap(finite_only));
                for part in values.chunks(30_000) {
                    whole.observe(part).unwrap();
                    shared.observe_shared(part, shares, at_once).unwrap();
                }
                assert_eq!(a.lock().settled(), b.lock().settled());
                assert_eq!(b.lock().settled().observations, 2);
            }
        }
    }

    #[test]
    fn a_failed_share_makes_no_observation() {
        let (tap, stats) = tap(false);
        let refused = tap.observe_shared(&[1.0f32; 10], 2, |_, _| Err("no threads".into()));
        assert_eq!(refused, Err("no threads".into()));
        assert_eq!(stats.lock().settled().observations, 0);
        let half = |_: usize, work: &(dyn Fn(usize) + Sync)| {
            work(1);
            Err("a thread died".into())
        };
        assert!(tap.observe_shared(&[1.0f32, 2.0, 3.0, 4.0], 2, half).is_err());
        let seen = stats.lock().settled().clone();
        assert_eq!((seen.observations, seen.histogram.count(), seen.minima.count()), (0, 2, 0));
    }

    #[test]
    fn non_finite_values_are_refused_and_nothing_is_recorded() {
        let values = [1.0f32, f32::NAN, f32::INFINITY];
        let (strict, stats) = tap(true);
        let refused = Error::NonFinite { nan: 1, posinf: 1, neginf: 0, count: 3 };
        assert_eq!(strict.observe(&values), Err(refused.clone()));
        assert_eq!(strict.observe_shared(&values, 2, at_once), Err(refused.to_string()));
        assert_eq!(stats.lock().settled().observations, 0);
        let (lenient, stats) = tap(false);
        lenient.observe(&values).unwrap();
        assert_eq!(stats.lock().settled().histogram.nan(), 1);
    }
}
