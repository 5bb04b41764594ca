"""The search of `tune`: which nodes must stay in float for a promise to be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from quantcal.onnx._choose.joint_trials import JointTrials
from quantcal.onnx._choose.promise import Promise


@dataclass(frozen=True, slots=True)
class TunePoint:
    """A model that was tried.

    Attributes
    ----------
    exclude
        The nodes in float.
    drop
        What it loses on the samples that decide.
    latency_ms
        Its time for a sample, estimated from the times of nodes; None without them.
    """

    exclude: tuple[str, ...]
    drop: float
    latency_ms: float | None


@dataclass(slots=True)
class TuneSearch:
    """Finds the fewest nodes in float that keep a promise.

    Parameters
    ----------
    trials
        On the samples that decide.
    promise
    latency
        Returns the estimated time with some nodes in float.
    until
        The time of ``time.monotonic`` at which to stop; None for no limit.
    on_trial
        Called after each model.
    points
        The models that were tried.
    ended_early
        Whether the time ended the search.
    """

    trials: JointTrials
    promise: Promise
    latency: Callable[[Collection[str]], float | None]
    until: float | None = None
    on_trial: Callable[[], object] = lambda: None
    points: list[TunePoint] = field(default_factory=list)
    ended_early: bool = False

    @property
    def is_late(self) -> bool:
        """Whether the time is over; asked only where something is left to try."""
        if self.until is not None and time.monotonic() >= self.until:
            self.ended_early = True
        return self.ended_early

    def drop(self, exclude: Collection[str]) -> float:
        """Return what a model loses, and note it."""
        names = tuple(exclude)
        known = [p for p in self.points if set(p.exclude) == set(names)]
        if known:
            return known[0].drop
        damage = self.trials.damage(names)
        drop = self.promise.drop(damage, self.trials.indices)
        self.points.append(TunePoint(names, drop, self.latency(names)))
        self.on_trial()
        return drop

    def search(self, free: Sequence[str], ranked: Sequence[str]) -> tuple[str, ...]:
        """Return nodes to leave in float.

        The shortest beginning of the order that keeps the promise is found by doubling
        and bisection. Then each guilty node is put back into integers, the least guilty
        first, if the promise is still kept. Without success, the best model is returned.

        Parameters
        ----------
        free : sequence of str
            Nodes that integers do not make faster. They come first and stay.
        ranked : sequence of str
            The nodes, the guiltiest first.
        """
        order = [*free, *(name for name in ranked if name not in free)]
        low, high = -1, 0  # the promise is broken with the first `low` nodes
        limit = max(len(order) - 1, 0)  # one node must stay quantized
        while limit and not self.trials.can_exclude(order[:limit]):
            limit -= 1
        while not self.promise.is_kept(self.drop(order[:high])):
            if high >= limit or self.is_late:
                return min(self.points, key=lambda point: point.drop).exclude
            low, high = high, min(max(1, 2 * high), limit)
        while high - low > 1 and not self.is_late:
            middle = (low + high) // 2
            if self.promise.is_kept(self.drop(order[:middle])):
                high = middle
            else:
                low = middle
        return self._put_back(list(order[:high]), len(free))

    def _put_back(self, exclude: list[str], free: int) -> tuple[str, ...]:
        for name in list(reversed(exclude[free:])):
            if self.is_late:
                break
            fewer = [other for other in exclude if other != name]
            if self.promise.is_kept(self.drop(fewer)):
                exclude = fewer
        return tuple(exclude)
