"""Options that repeat a run in which more nodes stay in float than were asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from quantcal.onnx._choose.candidates import pattern_of, without_rules
from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._options.names import matches
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.strategies.patterns import NODE
from quantcal.strategies.policy import Policy

if TYPE_CHECKING:
    from quantcal.onnx._plan.preparation import Prepared

_Options = TypeVar("_Options", bound=QuantizeOptions)


def fitting_options(
    options: _Options, prepared: Prepared, exclude: Iterable[str]
) -> _Options:
    """Return options with these nodes excluded, without rules that now match nothing.

    Parameters
    ----------
    options
        Their strategy is a policy for tensors.
    prepared
        The model with these nodes in float already.
    exclude
        Names of nodes.
    """
    plan = prepared.plan
    names = tuple(map(pattern_of, exclude))
    every = {value.name for value in prepared.proto.graph.input}
    every |= {name for node in all_nodes(prepared.proto.graph) for name in node.output}
    policy = without_rules(Policy.of(options.strategy), every - {*plan.tensors})
    read = {
        name
        for node in all_nodes(prepared.proto.graph)
        if node.name in plan.nodes
        for name in node.input
    }
    return replace(
        options,
        strategy=policy,
        exclude=tuple(dict.fromkeys((*options.exclude, *names))),
        activation_formats=_used(options.activation_formats, plan.tensors, plan.nodes),
        weight_formats=_used(options.weight_formats, read, plan.nodes),
    )


def _used(
    rules: Mapping[str, str] | None, names: Collection[str], nodes: Collection[str]
) -> dict[str, str]:
    """Return the rules that match a tensor, or a quantized node."""

    def is_used(text: str) -> bool:
        if text.startswith(NODE):
            return any(matches(node, [text.removeprefix(NODE)]) for node in nodes)
        return any(matches(name, [text]) for name in names)

    return {text: format for text, format in (rules or {}).items() if is_used(text)}
