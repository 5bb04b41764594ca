"""Trials in which some nodes stay in float: which activations are then still rounded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._plan.weight_budget import plan_within

if TYPE_CHECKING:
    from quantcal.onnx._plan.plan import Plan
    from quantcal.onnx._plan.preparation import Prepared

IN_FLOAT = "in float because of their loss"


def leave_in_float(prepared: Prepared, nodes: Collection[str]) -> Prepared:
    """Return the model with a plan without these nodes."""
    if not nodes:
        return prepared
    plan = NodePlans(prepared).without(nodes)
    if plan is None:
        raise CalibrationError(
            "No node would be quantized any more: all are left in float."
        )
    held = {**prepared.unsupported, **dict.fromkeys(sorted(nodes), IN_FLOAT)}
    return replace(
        prepared, plan=plan, unsupported=held, without=prepared.without or {}
    )


class NodePlans:
    """Plans of the same model with fewer nodes, each made once.

    Parameters
    ----------
    prepared : Prepared
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._plans: dict[frozenset[str], Plan | None] = {frozenset(): prepared.plan}

    def without(self, nodes: Collection[str]) -> Plan | None:
        """Return the plan with these nodes in float; None when no other node is left."""
        key = frozenset(nodes)
        if key not in self._plans:
            request = self._prepared.request()
            held = {**request.unsupported, **dict.fromkeys(sorted(key), IN_FLOAT)}
            request = replace(request, unsupported=held, without=request.without or {})
            try:
                self._plans[key] = plan_within(request)
            except CalibrationError:  # nothing is left
                self._plans[key] = None
        return self._plans[key]

    def rounded(self, nodes: Collection[str]) -> frozenset[str]:
        """Return the activations that are rounded if only these nodes are quantized."""
        others = self._prepared.plan.nodes.keys() - set(nodes)
        plan = self.without(others)
        return frozenset() if plan is None else frozenset(plan.sites)
