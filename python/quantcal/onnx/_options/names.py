"""Nodes and tensors by name: patterns, rules and near names.

A pattern is a name, a glob, or another form that :class:`quantcal.Policy` accepts. In rules
for tensors, ``node:`` with a pattern of node names means the tensors that such nodes read or
write.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from quantcal._core import CalibrationError
from quantcal.strategies.base import Strategy
from quantcal.strategies.patterns import NODE, Pattern
from quantcal.strategies.policy import Policy

_T = TypeVar("_T")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name equals one of the patterns, or matches it."""
    return any(name == text or Pattern(text).matches(name) for text in patterns)


def near(name: str, names: Iterable[str], *, lead: str = "It has") -> str:
    """Return a sentence with names that resemble a missing one, else with the first names.

    Without names it says that there are none.

    ``lead`` begins the sentence with the first names.
    """
    known = sorted(set(names))
    if not known:
        return "There are none."
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    if close:
        return f"Near names: {', '.join(close)}."
    more = ", …" if len(known) > 12 else ""
    return f"{lead}: {', '.join(known[:12])}{more}."


def rule_for(
    rules: Mapping[str, _T], name: str, nodes: Iterable[str], default: _T
) -> _T:
    """Return the value of the first rule that matches the tensor or one of its nodes."""
    for text, value in rules.items():
        if text.startswith(NODE):
            pattern = [text.removeprefix(NODE)]
            if any(matches(node, pattern) for node in nodes):
                return value
        elif matches(name, [text]):
            return value
    return default


def check_rules(
    option: str,
    rules: Iterable[str],
    beside: Mapping[str, Sequence[str]],
    label: str,
) -> None:
    """Refuse rules that match nothing.

    Parameters
    ----------
    option
        Names the rules in errors.
    rules
        Patterns.
    beside
        Tensor name → names of the nodes that read or write it.
    label
        Names the model.
    """
    nodes = {node for listed in beside.values() for node in listed}
    for text in rules:
        wanted, known, what = text, set(beside), "quantized tensor"
        if text.startswith(NODE):
            wanted, known, what = text.removeprefix(NODE), nodes, "quantized node"
        if not any(matches(name, [wanted]) for name in known):
            raise CalibrationError(
                f"{option}: {text!r} matches no {what} of {label}. {near(wanted, known)}"
            )


def resolve_node_rules(
    policy: Policy,
    beside: Mapping[str, Sequence[str]],
    before: Mapping[str, Sequence[str]],
    label: str,
) -> Policy:
    """Return a policy with the tensors' names in place of ``node:`` patterns.

    Parameters
    ----------
    policy
    beside
        Tensor name → names of the nodes that read or write it.
    before
        The same before nodes were left in float to limit the size. Rules may name these
        nodes and tensors. Such a rule is left out if it matches nothing else.
    label
        Names the model.
    """
    texts = [text for text, _ in policy.rules]
    ruled = [text for text in texts if text.startswith(NODE)]
    gone = before.keys() - beside.keys()
    if not ruled and gone.isdisjoint(texts):
        return policy
    check_rules("strategy", ruled, before, label)
    rules: dict[str, Strategy] = {}
    for text, strategy in policy.rules:
        if text in gone:
            continue
        if not text.startswith(NODE):
            rules.setdefault(text, strategy)
            continue
        for name, nodes in beside.items():
            if any(matches(node, [text.removeprefix(NODE)]) for node in nodes):
                rules.setdefault(name, strategy)
    if not rules:
        raise CalibrationError(
            f"strategy: all nodes of {label} that the rules match stay in float: "
            f'{", ".join(texts)}. Add a rule "*" for the others.'
        )
    return Policy(rules)
