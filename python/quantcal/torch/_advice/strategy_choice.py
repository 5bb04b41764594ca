"""Which strategy to take for all inputs, measured on samples that did not decide its ranges.

Samples at even places propose a strategy, and those at odd places must confirm it. If the
histograms are of the same samples, each half is measured with the ranges of the other one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from quantcal._core import CalibrationError
from quantcal.advice.search import MIN_GAIN, Halves, LossMeter, OutOfTimeError
from quantcal.calibrator import Calibrator
from quantcal.formats import FormatLike
from quantcal.strategies.auto import Auto
from quantcal.strategies.base import Strategy
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.torch._advice.trial_runs import Table, TrialRuns

CANDIDATES = ("mse", "llm_layers", "percentile_adaptive", "minmax", "percentile_99.999")
"""The first is the one to beat. On language models these five lose least, each of them
somewhere (docs/measurements/llm.md). KL and lower percentiles destroy such models, and other
models rarely gain by them over MSE."""


@dataclass(frozen=True)
class Calibrations:
    """The histograms of all samples, and those of the halves.

    Parameters
    ----------
    whole
        All that was observed.
    halves
        Of the samples at even and at odd places. Empty if the caller gave the histograms:
        the samples did not decide ranges then.
    """

    whole: Calibrator
    halves: tuple[Calibrator, ...] = ()

    def judging(self, half: int) -> Calibrator:
        """Return the histograms with which a half of the samples is measured."""
        return self.halves[1 - half] if self.halves else self.whole


@dataclass(frozen=True)
class TableMaker:
    """Computes the ranges of the inputs of modules.

    Parameters
    ----------
    inputs
        Name of an input → the names that its readers have in a table.
    format, symmetric
        As for `Calibrator.compute`.
    """

    inputs: Mapping[str, Collection[str]]
    format: FormatLike | None
    symmetric: bool | None

    def __call__(self, calibrator: Calibrator, policy: Policy) -> dict[str, Table]:
        """Return by input the parameters of its readers."""
        table = calibrator.compute(policy, format=self.format, symmetric=self.symmetric)
        return {
            name: {each: table[each] for each in several if each in table}
            for name, several in self.inputs.items()
        }


def candidates_of(strategy: StrategyLike, **options: Any) -> dict[str, Policy]:
    """Return the policies to choose from by name; empty if there is nothing to choose.

    An `Auto` for all tensors may become a strategy or a named policy; one for some tensors
    becomes a strategy.
    """
    policy = Policy.of(strategy, **options)
    auto = [text for text, each in policy.rules if isinstance(each, Auto)]
    if not auto:
        return {}
    others = [rule for rule in policy.rules if not isinstance(rule[1], Auto)]
    found: dict[str, Policy] = {}
    for name in CANDIDATES:
        made = Policy.of(name)
        if auto == ["*"]:
            found[name] = Policy(others) + made if others else made
        elif len(made.rules) == 1:
            found[name] = policy.changed(partial(_in_place_of_auto, made.rules[0][1]))
    return found


def _in_place_of_auto(chosen: Strategy, _: str, given: Strategy) -> Strategy:
    return chosen if isinstance(given, Auto) else given


class StrategyChoice:
    """Compares strategies for all inputs.

    Parameters
    ----------
    trial
        Gets the ranges of all candidates, under separate names.
    seen
        The histograms.
    tables
        Computes ranges.
    candidates
        Name → policy.
    halves
        The samples.
    """

    def __init__(
        self,
        trial: TrialRuns,
        seen: Calibrations,
        tables: TableMaker,
        candidates: Mapping[str, Policy],
        halves: Halves,
    ) -> None:
        self._trial = trial
        self._seen = seen
        self._tables = tables
        self._policies = dict(candidates)
        self._halves = halves
        self._made: set[str] = set()

    def better(
        self, meter: LossMeter, current: str, in_float: Collection[str] = ()
    ) -> str:
        """Return the best candidate, or the current one if nothing is confirmed to be better.

        Parameters
        ----------
        meter
            Measures losses, until the time is over.
        current
            The one to beat.
        in_float
            Inputs that stay in float.
        """
        losses: dict[str, float] = {}
        proposing, confirming = self._halves.proposing, self._halves.confirming
        try:
            for name in (current, *(n for n in self._policies if n != current)):
                names = self._names(name, 0, in_float)
                if names is not None:
                    losses[name] = meter(names, proposing)
            order = sorted(losses, key=losses.__getitem__)
            best = order[0] if order else current
            if best == current:
                return current
            both = [self._names(name, 1, in_float) for name in (current, best)]
            known = [names for names in both if names is not None]
            if len(known) < len(both):
                return current
            before, after = (meter(names, confirming) for names in known)
        except OutOfTimeError:
            return current
        return best if after <= (1 - MIN_GAIN) * before else current

    def _names(
        self, candidate: str, half: int, in_float: Collection[str]
    ) -> Sequence[str] | None:
        """Return the names of a candidate's ranges; None if histograms do not suffice."""
        half = half if self._seen.halves else 0  # both are the same
        prefix = f"{candidate} {half} "
        if prefix not in self._made:
            try:
                made = self._tables(self._seen.judging(half), self._policies[candidate])
            except CalibrationError:
                if candidate == next(iter(self._policies)):
                    raise
                del self._policies[candidate]
                return None
            self._trial.tables.update(
                {f"{prefix}{name}": each for name, each in made.items()}
            )
            self._made.add(prefix)
        inputs = [name for name in self._tables.inputs if name not in in_float]
        return [f"{prefix}{name}" for name in inputs]
