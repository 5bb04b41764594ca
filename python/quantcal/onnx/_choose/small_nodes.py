"""Small nodes whose rounding costs much: in float they cost little time.

Candidates are the last nodes, those beside the tensors that lose most alone, and sets of
the nodes that lose most for each multiply-add. Each proposal must lower the loss clearly,
also on samples that did not propose it. How much may stay in float grows with what it
gains: for a loss a third as large, three times the share.

Proposals are tried by switching roundings off, which needs no new model. What is left in the
end is planned anew and measured once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.data.thinning import spread
from quantcal.onnx._choose.loss_gains import gains
from quantcal.onnx._choose.node_trials import NodePlans
from quantcal.onnx._choose.output_nodes import last_nodes
from quantcal.onnx._choose.sensitivity import Suspects
from quantcal.onnx._choose.time_limit import is_late
from quantcal.onnx._trial.trial_session import Grids, without
from quantcal.onnx._trial.trials import Trials

if TYPE_CHECKING:
    from quantcal.onnx._choose.joint_trials import JointTrials
    from quantcal.onnx._plan.preparation import Prepared

CLEARLY = 0.1
"""A change must lower the loss by a tenth. Smaller gains are not worth a kernel."""

_MOST = 4.0  # times the share at most, however much the loss falls
_PROPOSALS = 4  # tensors whose nodes are tried alone
_COSTLY = 0.05  # of the loss of all suspects
_SETS = (2, 4, 8, 16, 32)  # units of a set
_SCREEN = 8  # samples that sort out what helps nothing
_FREE = 1e-3  # a share of the multiply-adds that costs nothing


@dataclass(frozen=True, slots=True)
class SmallNodes:
    """The nodes to leave in float, and the losses on the confirming samples."""

    exclude: tuple[str, ...]
    before: float
    after: float


class SmallNodeSearch:
    """Finds small nodes to leave in float.

    Parameters
    ----------
    prepared : Prepared
    trials : Trials
        With quantized weights.
    grids : sequence of float32 array
        Of the chosen strategy, for each fold.
    halves : tuple of (sequence of int, sequence of int)
        The samples that propose, and those that confirm.
    counts : mapping of str to int
        Node → its multiply-adds.
    share : float
        The share of the multiply-adds that may stay in float.
    until : float, optional
        The time of ``time.monotonic`` after which nothing is tried.
    """

    def __init__(
        self,
        prepared: Prepared,
        trials: Trials,
        grids: Sequence[Grids],
        halves: tuple[Sequence[int], Sequence[int]],
        counts: Mapping[str, int],
        share: float,
        until: float | None = None,
    ) -> None:
        self._prepared = prepared
        self._plans = NodePlans(prepared)
        self._trials = trials
        self._grids = grids
        self._halves = halves
        self._total = sum(counts.get(name, 0) for name in prepared.plan.nodes)
        self._counts = counts
        self._share = share
        self._until = until

    def find(self, suspects: Sequence[Suspects], joint: JointTrials) -> SmallNodes:
        """Return the nodes, none if nothing helps.

        Parameters
        ----------
        suspects : sequence of Suspects
            Worst first, from the samples that propose.
        joint : JointTrials
            Measures the model that is planned without the nodes.
        """
        chosen: tuple[str, ...] = ()
        losses = first = self._losses(())
        for nodes in self._proposals(suspects):
            if is_late(self._until):
                break
            exclude = tuple(dict.fromkeys((*chosen, *nodes)))
            fits = len(exclude) > len(chosen) and self._is_small(exclude, _MOST)
            if not fits or self._plans.without(exclude) is None:
                continue
            tried = self._losses(exclude, losses)
            if len(tried) == len(first) and self._is_small(
                exclude, share_factor(first[-1], tried[-1])
            ):
                chosen, losses = exclude, tried
        before = first[-1]
        if not chosen:
            return SmallNodes((), before, before)
        after = joint.loss(chosen, self._halves[1])
        if not gains(before, after, CLEARLY):
            return SmallNodes((), before, before)
        return SmallNodes(chosen, before, after)

    def _losses(
        self, exclude: tuple[str, ...], before: Sequence[float] = ()
    ) -> list[float]:
        """Return the losses on a few samples, on those that propose, and on the others.

        With the losses ``before``, it ends at the first that does not fall clearly.
        """
        session = self._trials.session
        plan = self._plans.without(exclude)
        rounded = () if plan is None else plan.sites
        rows = session.rows(name for name in session.tensors if name not in rounded)
        grids = [without(each, rows) for each in self._grids]
        propose, confirm = self._halves
        steps = [propose, confirm]
        if len(propose) > _SCREEN:
            steps.insert(0, spread(propose, _SCREEN))
        found: list[float] = []
        for place, samples in enumerate(steps):
            loss = self._trials.loss(grids, samples)
            if before and not gains(before[place], loss, CLEARLY):
                break
            found.append(loss)
        return found

    def _proposals(self, suspects: Sequence[Suspects]) -> Iterator[tuple[str, ...]]:
        last = last_nodes(self._prepared)
        if last:
            yield last
        single = [each for each in suspects if len(each.rows) == 1]
        least = _COSTLY * sum(each.loss for each in suspects)
        for each in [each for each in single if each.loss >= least][:_PROPOSALS]:
            nodes = self._beside(each)
            # One of them may suffice: the smallest is tried first.
            for name in sorted(nodes, key=lambda node: self._counts.get(node, 0)):
                yield (name,)
            if len(nodes) > 1:
                yield nodes
        yield from self._sets(suspects)

    def _sets(self, suspects: Sequence[Suspects]) -> Iterator[tuple[str, ...]]:
        """Yield ever more of the nodes that lose most for what they cost in float."""
        worth = sorted(
            ((self._beside(each), each.loss) for each in suspects),
            key=lambda pair: -pair[1] / (_FREE + self._share_of(pair[0])),
        )
        units = [nodes for nodes, _ in worth if nodes and self._is_small(nodes, _MOST)]
        for count in _SETS:
            chosen: dict[str, None] = {}
            for nodes in units[:count]:
                more = {**chosen, **dict.fromkeys(nodes)}
                chosen = more if self._is_small(more, _MOST) else chosen
            if chosen:
                yield tuple(chosen)
            if count >= len(units):
                return

    def _beside(self, suspect: Suspects) -> tuple[str, ...]:
        """Return the quantized nodes that write or read its tensors."""
        plan, names = self._prepared.plan, self._trials.session.tensors
        beside = (node for row in suspect.rows for node in plan.beside[names[row]])
        return tuple(dict.fromkeys(name for name in beside if name in plan.nodes))

    def _share_of(self, nodes: Collection[str]) -> float:
        own = sum(self._counts.get(name, 0) for name in nodes)
        return own / self._total if self._total else 0.0

    def _is_small(self, nodes: Collection[str], factor: float) -> bool:
        return self._share_of(nodes) <= factor * self._share


def share_factor(before: float, after: float) -> float:
    """Return how many times the share may stay in float for this gain."""
    if after <= 0:  # also the drop of a metric, which may be below zero
        return _MOST
    return min(max(before / after, 1.0), _MOST)
