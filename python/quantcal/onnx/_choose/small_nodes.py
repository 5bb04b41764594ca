"""Small nodes whose rounding costs much: in float they cost little time.

Candidates are the last nodes, and those beside the tensors that lose most alone. Together
they may have a small share of the multiply-adds. Each must lower the loss clearly, also on
samples that did not propose it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.onnx._choose.loss_gains import gains
from quantcal.onnx._choose.output_nodes import last_nodes
from quantcal.onnx._choose.sensitivity import Suspects
from quantcal.onnx._choose.time_limit import is_late

if TYPE_CHECKING:
    from quantcal.onnx._choose.joint_trials import JointTrials
    from quantcal.onnx._plan.preparation import Prepared

CLEARLY = 0.1
"""A change must lower the loss by a tenth. Smaller gains are not worth a kernel."""

_NODES = 0.05  # the largest share of the nodes, but at least two
_PROPOSALS = 4  # tensors whose nodes are tried
_COSTLY = 0.05  # of the loss of all suspects


@dataclass(frozen=True, slots=True)
class SmallNodes:
    """The nodes to leave in float, and the losses on the confirming samples."""

    exclude: tuple[str, ...]
    before: float
    after: float


def find_small_nodes(
    prepared: Prepared,
    trials: JointTrials,
    halves: tuple[Sequence[int], Sequence[int]],
    suspects: Sequence[Suspects],
    names: Sequence[str],
    counts: Mapping[str, int],
    share: float,
    until: float | None = None,
) -> SmallNodes:
    """Find small nodes to leave in float.

    Parameters
    ----------
    prepared : Prepared
    trials : JointTrials
    halves : tuple of (sequence of int, sequence of int)
        The samples that propose, and those that confirm.
    suspects : sequence of Suspects
        Worst first, from the samples that propose.
    names : sequence of str
        The tensor of each row.
    counts : mapping of str to int
        Node → its multiply-adds.
    share : float
        The largest share of the multiply-adds that may stay in float.
    until : float, optional
        The time of ``time.monotonic`` after which nothing is tried.
    """
    proposing, confirming = halves
    chosen: tuple[str, ...] = ()
    losses = trials.loss((), proposing), trials.loss((), confirming)
    first = losses[1]
    for nodes in _proposals(prepared, suspects, names, counts):
        if is_late(until):
            break
        exclude = tuple(dict.fromkeys((*chosen, *nodes)))
        if len(exclude) == len(chosen) or not _is_small(
            prepared, exclude, counts, share
        ):
            continue
        if not trials.can_exclude(exclude):
            continue
        tried = trials.loss(exclude, proposing), trials.loss(exclude, confirming)
        if all(gains(*each, CLEARLY) for each in zip(losses, tried, strict=True)):
            chosen, losses = exclude, tried
    return SmallNodes(chosen, first, losses[1])


def _proposals(
    prepared: Prepared,
    suspects: Sequence[Suspects],
    names: Sequence[str],
    counts: Mapping[str, int],
) -> Iterator[tuple[str, ...]]:
    last = last_nodes(prepared)
    if last:
        yield last
    single = [each for each in suspects if len(each.rows) == 1]
    least = _COSTLY * sum(each.loss for each in suspects)
    for each in [each for each in single if each.loss >= least][:_PROPOSALS]:
        beside = prepared.plan.beside[names[each.rows[0]]]
        nodes = [name for name in beside if name in prepared.plan.nodes]
        # One of them may suffice: the smallest is tried first.
        for name in sorted(nodes, key=lambda node: counts.get(node, 0)):
            yield (name,)
        if len(nodes) > 1:
            yield tuple(nodes)


def _is_small(
    prepared: Prepared,
    nodes: Collection[str],
    counts: Mapping[str, int],
    share: float,
) -> bool:
    plan = prepared.plan
    total = sum(counts.get(name, 0) for name in plan.nodes)
    own = sum(counts.get(name, 0) for name in nodes)
    return own <= share * total and len(nodes) <= max(2, _NODES * len(plan.nodes))
