"""The strategies that are tried, and policies that say which tensor takes which."""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Mapping

from quantcal.strategies.auto import Auto
from quantcal.strategies.base import Strategy
from quantcal.strategies.hybrid import Hybrid
from quantcal.strategies.kl import KL
from quantcal.strategies.minmax import MinMax
from quantcal.strategies.mse import MSE
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.policy import Policy

CANDIDATES: tuple[Strategy, ...] = (
    MSE(),
    MinMax(),
    Percentile(99.999),
    Percentile(99.99),
    MSE(p=3),
    KL(),
    Hybrid(),
)
"""In the order in which equal losses are decided. MSE comes first: it has the smallest mean
loss over 15 networks. Each other is best on some network (docs/measurements/choosing.md)."""


def find_auto(policy: Policy) -> Auto | None:
    """Return the first Auto of a policy; None when it has none."""
    return next((s for _, s in policy.rules if isinstance(s, Auto)), None)


def replace_auto(policy: Policy, strategy: Strategy) -> Policy:
    """Return the policy with a strategy in place of every Auto."""
    if find_auto(policy) is None:
        return policy
    return policy.changed(lambda _, s: strategy if isinstance(s, Auto) else s)


def with_tensors(policy: Policy, chosen: Mapping[str, Strategy]) -> Policy:
    """Return the policy with rules for single tensors before all others."""
    if not chosen:
        return policy
    rules = Policy([(pattern_of(name), each) for name, each in chosen.items()])
    return rules + policy


def without_rules(policy: Policy, names: Collection[str]) -> Policy:
    """Return the policy without rules for these tensors alone, which no longer exist."""
    gone = {*names, *map(pattern_of, names)}
    return policy.changed(lambda text, each: None if text in gone else each)


def pattern_of(name: str) -> str:
    """Return the pattern that matches one name only."""
    if name.startswith(("re:", "layer:", "node:")):
        return f"re:^{re.escape(name)}$"
    return glob.escape(name)
