"""Plan so that the constants never take more bytes than in the float model.

A weight that some node also reads in float is stored twice, in float and as codes. If that
makes all constants together larger than before, nodes of such weights stay in float, those
with the largest growth first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from quantcal.formats import QuantFormat
from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._graph.tied_weights import Tie
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.plan import Plan, PlanRequest, make_plan
from quantcal.onnx._plan.weight_sharing import plan_weight_uses
from quantcal.onnx._plan.weight_uses import (
    NodeInput,
    WeightKey,
    WeightUse,
    find_shared_keys,
    roots_read_in_float,
)

if TYPE_CHECKING:
    import onnx

_FLOAT_BYTES = 4
_SPARE = 1024
"""A growth in bytes that is ignored: the nodes of one Q/DQ pair take about 300."""


def plan_within(request: PlanRequest) -> Plan:
    """Make a plan whose constants take no more bytes than those of the float model."""
    plan = make_plan(request)
    heavy = _too_heavy(request.proto.graph, plan, request.options, request.ties)
    if not heavy:
        return plan
    # The rules were checked above. A rule for a weight that now stays in float is not an
    # error: the result reports the node and the reason.
    without = () if request.without is None else request.without
    lighter = replace(
        request, unsupported={**heavy, **request.unsupported}, without=without
    )
    return replace(make_plan(lighter), before_limit=plan)


def _too_heavy(
    graph: onnx.GraphProto, plan: Plan, options: Options, ties: Mapping[str, Tie]
) -> dict[str, str]:
    """Return the nodes that must stay in float to limit the size, and why."""
    # 7 bits are stored in 8, so the choice between them has no effect here.
    found = plan_weight_uses(graph, plan.nodes, ties, options, WeightBits(False, ""))
    sizes = {
        name: math.prod(tensor.dims) for name, tensor in stored_tensors(graph).items()
    }
    kept = roots_read_in_float(graph, found, ties)
    shared = find_shared_keys(graph, found, plan.formats)
    copies = _copies(graph, found, shared)
    growth: dict[str, int] = {}
    members: dict[str, list[NodeInput]] = {}
    for place, use in found.items():
        root, size = ties.get(use.name, Tie(use.name)).root, sizes[use.name]
        members.setdefault(root, []).append(place)
        growth.setdefault(root, 0 if root in kept else -_FLOAT_BYTES * size)
        growth[root] += copies.pop(use.key, 0) * math.ceil(size * _bits(use.key) / 8)
    total = sum(growth.values())
    heavy: dict[str, str] = {}
    for root in sorted(growth, key=lambda name: -growth[name]):
        if total <= _SPARE or growth[root] <= 0:
            break
        total -= growth[root]
        why = "is also read in float" if root in kept else "is read in several forms"
        for name, _ in members[root]:
            if name in plan.nodes:
                heavy[name] = f"with a weight that {why} ({root!r})"
    return heavy


def _copies(
    graph: onnx.GraphProto, found: Mapping[NodeInput, WeightUse], shared: set[WeightKey]
) -> Counter[WeightKey]:
    """Return how often each key's codes are stored: once, or once for each graph."""
    graphs: dict[WeightKey, set[int]] = {}
    for index, scope in enumerate(scopes(graph)):
        for node in scope.node:
            for position in range(len(node.input)):
                use = found.get((node.name, position))
                if use is not None:
                    graphs.setdefault(use.key, set()).add(index)
    return Counter({k: 1 if k in shared else len(g) for k, g in graphs.items()})


def _bits(key: WeightKey) -> float:
    """Return the stored bits of a value, its share of the block's scale included."""
    if key.format.startswith("float"):
        return 8.0
    bits = QuantFormat(key.format).bits
    stored = 4 if bits <= 4 else 8 if bits <= 8 else 16
    return stored + 32 / key.block_size if key.block_size else stored
