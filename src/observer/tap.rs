//! What an operator records into, and how it finds it.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use super::runtime::Told;
use crate::{
    Error, Histogram, Recorder, Result,
    float::{Element, are_finite},
    fork::{Lock, Locked},
    parallel,
};

/// The recorder of one tensor.
#[derive(Debug)]
pub struct Tap {
    name: String,
    recorder: Arc<Lock<Recorder>>,
    finite_only: bool,
}

impl Tap {
    /// Records the tensor `name`; with `finite_only` it refuses NaN and infinities.
    pub fn new(name: String, recorder: Arc<Lock<Recorder>>, finite_only: bool) -> Self {
        Self { name, recorder, finite_only }
    }

    /// Name of the tensor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds one observation, on this thread alone.
    ///
    /// # Errors
    /// [`Error::NonFinite`], [`Error::TooMany`]; nothing is recorded then.
    pub fn observe<T: Element>(&self, values: &[T]) -> Result<()> {
        if self.finite_only && !are_finite(values) {
            return refuse(values);
        }
        let mut recorder = self.recorder.lock();
        recorder.check_room(values.len() as u64, 1)?;
        parallel::alone(|| recorder.observe(values));
        Ok(())
    }

    /// Adds one observation in so many shares, each counted where `share_out` calls for its number: on any
    /// threads, at once.
    ///
    /// # Errors
    /// As [`observe`](Self::observe), and what `share_out` returns; then there was no observation, but what it
    /// had called for is counted.
    pub(super) fn observe_shared<T: Element>(
        &self,
        values: &[T],
        shares: usize,
        share_out: impl Fn(usize, &(dyn Fn(usize) + Sync)) -> Told<()>,
    ) -> Told<()> {
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
        let mut recorder = self.recorder.lock();
        let room = recorder.check_room(values.len() as u64, 1);
        room.map_err(|error| error.to_string())?;
        recorder.observe_parts(&parts, share_out)
    }
}

/// Refuses values of which some are not finite.
fn refuse<T: Element>(values: &[T]) -> Result<()> {
    parallel::alone(|| Histogram::of(values)).refuse_non_finite()
}

static OPEN: LazyLock<Lock<HashMap<i64, Vec<Arc<Tap>>>>> = LazyLock::new(Lock::default);

fn open() -> Locked<'static, HashMap<i64, Vec<Arc<Tap>>>> {
    OPEN.lock()
}

/// Taps laid down under a number, for the operators of a session that is being opened.
///
/// Sessions that are open hold their taps themselves; this may be dropped.
#[derive(Debug)]
pub struct Taps {
    number: i64,
}

impl Taps {
    /// Lays taps down.
    pub fn new(taps: impl IntoIterator<Item = Tap>) -> Self {
        static NEXT: AtomicI64 = AtomicI64::new(1); // never used twice
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        open().insert(number, taps.into_iter().map(Arc::new).collect());
        Self { number }
    }

    /// The number that the nodes carry.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Finds a tap by the number of all and its own position.
    ///
    /// # Errors
    /// [`Error::NoTap`], as for a graph that was saved and opened again later.
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

    fn tap(finite_only: bool) -> (Tap, Arc<Lock<Recorder>>) {
        let recorder = Arc::default();
        (Tap::new("x".into(), Arc::clone(&recorder), finite_only), recorder)
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

    /// Works on all shares at once, as the runtime's threads do, the last first.
    #[expect(clippy::unnecessary_wraps, reason = "the runtime may fail")]
    fn at_once(shares: usize, work: &(dyn Fn(usize) + Sync)) -> Told<()> {
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
    fn what_cannot_be_shared_out_is_no_observation() {
        let (tap, recorder) = tap(false);
        let refused = tap.observe_shared(&[1.0f32; 10], 2, |_, _| Err("no threads".into()));
        assert_eq!(refused, Err("no threads".into()));
        assert_eq!(recorder.lock().settled().observations, 0);
        let half = |_: usize, work: &(dyn Fn(usize) + Sync)| {
            work(1);
            Err("a thread died".into())
        };
        assert!(tap.observe_shared(&[1.0f32, 2.0, 3.0, 4.0], 2, half).is_err());
        let seen = recorder.lock().settled().clone();
        assert_eq!((seen.observations, seen.histogram.count(), seen.minima.count()), (0, 2, 0));
    }

    #[test]
    fn what_is_not_finite_is_refused_and_nothing_recorded() {
        let values = [1.0f32, f32::NAN, f32::INFINITY];
        let (strict, recorder) = tap(true);
        let refused = Error::NonFinite { nan: 1, posinf: 1, neginf: 0, count: 3 };
        assert_eq!(strict.observe(&values), Err(refused.clone()));
        assert_eq!(strict.observe_shared(&values, 2, at_once), Err(refused.to_string()));
        assert_eq!(recorder.lock().settled().observations, 0);
        let (lenient, recorder) = tap(false);
        lenient.observe(&values).unwrap();
        assert_eq!(recorder.lock().settled().histogram.nan(), 1);
    }
}
