"""How much of a model may stay in float: a number of nodes, or a share of something."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._plan.weight_inputs import weight_positions

if TYPE_CHECKING:
    from quantcal.onnx._plan.preparation import Prepared

COUNTED = ("nodes", "weights", "multiply-adds")
"""What a share may be of, the default first."""

DEFAULT = 0.05
"""A twentieth: enough for the few tensors that lose most, and too little to cost speed."""


@dataclass(frozen=True, slots=True)
class FloatBudget:
    """The nodes that may stay in float.

    Attributes
    ----------
    sizes
        What is counted → node → its size.
    counted
        What the share is of.
    share
        From 0 to 1.
    keep
        The largest number of nodes.
    """

    sizes: Mapping[str, Mapping[str, float]]
    counted: str
    share: float
    keep: int

    @staticmethod
    def check(keep_float: int | None, budget: float | str | None, counted: str) -> None:
        """Check what a caller allows, before anything runs.

        Raises
        ------
        CalibrationError
            When a value is not understood.
        """
        if counted not in COUNTED:
            raise CalibrationError(
                f"budget_of is {shown(counted)}. Give one of {', '.join(COUNTED)}."
            )
        if keep_float is not None and not _is_count(keep_float):
            raise CalibrationError(
                f"keep_float is {shown(keep_float)}. Give a number of nodes, 0 or more."
            )
        if budget is not None:
            parse_share(budget)

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        keep_float: int | None,
        budget: float | str | None,
        counted: str,
        counts: Mapping[str, int],
    ) -> FloatBudget:
        """Apply what a caller allows; by default a twentieth of the nodes, at least one.

        ``counts`` has the multiply-adds of nodes.

        Raises
        ------
        CalibrationError
            As :meth:`check`.
        """
        cls.check(keep_float, budget, counted)
        sizes = _sizes(prepared, counts)
        total = len(sizes["nodes"])
        if budget is None and keep_float is not None:
            return cls(sizes, counted, 1.0, min(keep_float, total))
        share = DEFAULT if budget is None else parse_share(budget)
        most = total if keep_float is None else min(keep_float, total)
        if budget is None:
            most = max(1, math.floor(share * total))
            share = 1.0
        return cls(sizes, counted, share, most)

    def allows(self, nodes: Sequence[str]) -> bool:
        """Whether these nodes may stay in float together."""
        return len(nodes) <= self.keep and self.share_of(nodes) <= self.share + 1e-9

    def share_of(self, nodes: Collection[str], counted: str | None = None) -> float:
        """Return the share that these nodes make."""
        sizes = self.sizes[counted or self.counted]
        total = sum(sizes.values())
        return sum(sizes[name] for name in nodes) / total if total else 0.0


def parse_share(value: float | str) -> float:
    """Read a share: 0.05, "0.05" or "5%".

    Raises
    ------
    CalibrationError
        When it is none.
    """
    try:
        text = str(value).strip()
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = math.nan
    if isinstance(value, bool) or not 0 <= found <= 1:
        raise CalibrationError(
            f'{shown(value)} is no share. Give a number from 0 to 1, or a text such as "5%".'
        )
    return found


def parse_drop(value: float | str) -> float:
    """Read a share that may be lost; 1 is refused, as it would mean all.

    Raises
    ------
    CalibrationError
        When it is no share.
    """
    try:
        found = parse_share(value)
    except CalibrationError:
        found = math.nan
    if not found <= 1 or (found == 1 and not str(value).strip().endswith("%")):
        raise CalibrationError(
            f"max_drop is {shown(value)}. Give a share below 1 such as 0.01, or a text such "
            'as "1%".'
        )
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _sizes(
    prepared: Prepared, counts: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    graph, chosen = prepared.proto.graph, prepared.plan.nodes
    elements = {
        name: float(math.prod(tensor.dims))
        for name, tensor in stored_tensors(graph).items()
    }
    weights = dict.fromkeys(chosen, 0.0)
    for node in all_nodes(graph):
        if node.name in weights:
            read = [node.input[index] for index in weight_positions(node)]
            weights[node.name] = sum(elements.get(name, 0.0) for name in read)
    adds = {name: float(counts.get(name, 0)) for name in chosen}
    return {
        "nodes": dict.fromkeys(chosen, 1.0),
        "weights": weights,
        "multiply-adds": adds,
    }
