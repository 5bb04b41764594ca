"""Policies: which strategy decides for which tensor."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from quantcal._core import CalibrationError
from quantcal.strategies.base import Strategy
from quantcal.strategies.registry import resolve

_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class Policy:
    """Ordered rules, pattern to strategy; the first that matches a tensor's name decides.

    A pattern is a name, or a glob with `*`, `?` and `[…]`, case-sensitive.
    """

    rules: tuple[tuple[str, Strategy], ...]

    @classmethod
    def of(cls, strategy: Any, **options: Any) -> Policy:
        """Return a policy for a name, a strategy object, a mapping, or a policy.

        Raises
        ------
        CalibrationError
            If a name or an option is not known, or the mapping is empty.
        TypeError
            If it is none of these.
        """
        if isinstance(strategy, Policy):
            return strategy
        if not isinstance(strategy, Mapping):
            return cls((("*", resolve(strategy, **options)),))
        if options:
            msg = f"options ({', '.join(options)}) go with one name, not with a mapping"
            raise TypeError(msg)
        if not strategy:
            msg = 'The policy has no rules; give at least {"*": "mse"}.'
            raise CalibrationError(msg)
        return cls(tuple((p, resolve(s)) for p, s in strategy.items()))

    def match(self, name: str) -> tuple[str, Strategy]:
        """Return the rule that decides for a tensor.

        Raises
        ------
        CalibrationError
            If no rule matches.
        """
        for pattern, strategy in self.rules:
            if name == pattern or fnmatchcase(name, pattern):
                return pattern, strategy
        patterns = ", ".join(f'"{pattern}"' for pattern, _ in self.rules)
        msg = f'No rule matches tensor "{name}" (rules: {patterns}); add a rule "*".'
        raise CalibrationError(msg)

    def check(self, observed: Iterable[str]) -> None:
        """Refuse rules for plain names that were never observed.

        Raises
        ------
        CalibrationError
            Names the rule, and observed names like it.
        """
        known = list(observed)
        for pattern, _ in self.rules:
            if pattern not in known and not _GLOB.intersection(pattern):
                raise CalibrationError(unknown_name(pattern, known))


def unknown_name(name: str, observed: Iterable[str]) -> str:
    """Return the sentence that says a tensor was never observed, with names like it."""
    known = list(observed)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f'Tensor "{name}" was never observed ({len(known)} tensors were).{hint}'
