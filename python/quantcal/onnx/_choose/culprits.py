"""The nodes that lose most, and which of them to leave in float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantcal.advice.remedies import try_remedies
from quantcal.advice.result import Remedy
from quantcal.advice.search import (
    FloatChoice,
    Halves,
    LossMeter,
    OutOfTimeError,
    choose_float,
    find_guilty,
    group_by_block,
)
from quantcal.onnx._choose.node_trials import NodePlans
from quantcal.onnx._trial.trial_session import Grids

if TYPE_CHECKING:
    from quantcal.onnx._plan.plan import Plan
    from quantcal.onnx._trial.trials import Trials

_CUT = 0.01  # of the whole loss: groups that lose less are not divided
_TENSORS = 24  # activations that are measured alone, of the worst nodes


@dataclass(frozen=True, slots=True)
class Culprits:
    """What a search found.

    Attributes
    ----------
    choice
        The nodes to leave in float, and the losses on the confirming samples. Weights are
        in float.
    tensors
        Activation → its loss alone on the proposing samples, largest first.
    remedies
        Activation → what was tried on it.
    """

    choice: FloatChoice
    tensors: dict[str, float]
    remedies: dict[str, tuple[Remedy, ...]]


class CulpritSearch:
    """Searches with one trial session whose weights are in float.

    Parameters
    ----------
    trials : Trials
    plans : NodePlans
    grids : sequence of float32 array
        For each fold.
    variants : mapping of str to sequence of float32 array
        Other grids by name, such as those of a strategy or of 16 bits.
    """

    def __init__(
        self,
        trials: Trials,
        plans: NodePlans,
        grids: Sequence[Grids],
        variants: Mapping[str, Sequence[Grids]],
    ) -> None:
        self._trials = trials
        self._plans = plans
        self._all: dict[str, Sequence[Grids]] = {"": grids, **variants}
        self._row = {name: row for row, name in enumerate(trials.session.tensors)}

    def nodes(
        self,
        plan: Plan,
        *,
        keep: int,
        allowed: Callable[[Sequence[str]], bool],
        time_limit: float | None,
        on_run: Callable[[], object],
    ) -> FloatChoice:
        """Choose nodes to leave in float, at most ``keep`` and as ``allowed``."""
        names = self._rounding_nodes(plan)
        meter = LossMeter(self._of_nodes, time_limit=time_limit, on_run=on_run)
        halves = Halves.of(len(self._trials.samples))
        return choose_float(meter, names, halves, keep=keep, allowed=allowed)

    def ranking(
        self, plan: Plan, *, time_limit: float | None, on_run: Callable[[], object]
    ) -> list[str]:
        """Return the nodes that lose most alone, worst first."""
        meter = LossMeter(self._of_nodes, time_limit=time_limit, on_run=on_run)
        halves = Halves.of(len(self._trials.samples))
        names = self._rounding_nodes(plan)
        try:
            cut = _CUT * meter(names, halves.proposing)
        except OutOfTimeError:
            return []
        alone, _ = find_guilty(
            meter, group_by_block(names), halves.proposing, wanted=len(names), cut=cut
        )
        return sorted(alone, key=lambda name: -alone[name])

    @staticmethod
    def _rounding_nodes(plan: Plan) -> list[str]:
        """Return the nodes beside a rounded activation, in the order of the graph."""
        rounding = {name for beside in plan.beside.values() for name in beside}
        return [name for name in plan.nodes if name in rounding]

    def tensors(
        self,
        nodes: Collection[str],
        plan: Plan,
        *,
        ranges: Sequence[str],
        others: Sequence[str],
        most: int,
        time_limit: float | None,
        on_run: Callable[[], object],
    ) -> tuple[dict[str, float], dict[str, tuple[Remedy, ...]]]:
        """Measure the activations beside nodes alone, and try remedies on the worst.

        Parameters
        ----------
        nodes : collection of str
            The worst first.
        plan : Plan
        ranges, others : sequence of str
            The variants that are other ranges, and those that are other remedies.
        most : int
            On how many activations remedies are tried.
        time_limit : float, optional
        on_run : callable
        """
        beside = [n for node in nodes for n, by in plan.beside.items() if node in by]
        names = [n for n in dict.fromkeys(beside) if n in self._row][:_TENSORS]
        meter = LossMeter(self._of_tensors, time_limit=time_limit, on_run=on_run)
        halves = Halves.of(len(self._trials.samples))
        alone: dict[str, float] = {}
        remedies: dict[str, tuple[Remedy, ...]] = {}
        every = list(self._row)
        try:
            for name in names:
                alone[name] = meter([name], halves.proposing)
            worst = sorted(alone, key=lambda name: -alone[name])[:most]
            for name in worst:
                remedies[name] = try_remedies(
                    meter,
                    every,
                    name,
                    halves,
                    ranges={each: _variant(name, each) for each in ranges},
                    others={each: _variant(name, each) for each in others},
                )
        except OutOfTimeError:
            pass
        return dict(sorted(alone.items(), key=lambda each: -each[1])), remedies

    def _of_nodes(self, nodes: frozenset[str], sample: int) -> float:
        return self._of_tensors(self._plans.rounded(nodes), sample)

    def _of_tensors(self, tensors: frozenset[str], sample: int) -> float:
        """Return the loss of a sample with only these activations rounded."""
        fold = self._trials.samples.fold(sample)
        made = np.zeros_like(self._all[""][0])
        for text in tensors:
            name, _, variant = text.partition("\0")
            row = self._row.get(name)
            if row is not None:
                several = self._all[variant]
                made[row] = several[fold % len(several)][row]
        damage = self._trials.damage([made], [sample])
        return self._trials.judge.sample_loss(damage[0])


def _variant(name: str, variant: str) -> str:
    """Return the name of an activation with another grid; names have no zero characters."""
    return f"{name}\0{variant}"
