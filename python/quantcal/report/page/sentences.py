"""The parts of sentences: text, names of tensors, commands; and numbers in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Sentence = list[str | dict[str, str]]
"""Text, names of tensors (``{"tensor": name}``), and commands (``{"code": text}``)."""

Row = dict[str, Any]
"""The figures of a tensor, as :func:`quantcal.report.page.tensors.tensor_rows` makes them."""

NAMED = 3
"""Tensors and nodes that a sentence names."""


def say(*parts: str | dict[str, str]) -> Sentence:
    """Return a sentence from its parts; the first letter is a capital, a full stop ends it."""
    sentence: Sentence = list(parts)
    first, last = sentence[0], sentence[-1]
    if isinstance(first, str):
        sentence[0] = first[:1].upper() + first[1:]
        last = sentence[-1]
    if isinstance(last, dict):
        return sentence if "code" in last else [*sentence, "."]
    if not last.endswith((".", "!", "?")):
        sentence[-1] = f"{last}."
    return sentence


def tensor(name: str) -> dict[str, str]:
    """Return a tensor's name, which the page makes a link to it."""
    return {"tensor": name}


def code(text: str) -> dict[str, str]:
    """Return a command to copy."""
    return {"code": text}


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def counts(found: Mapping[str, int]) -> str:
    """Return counts with their names, the largest first."""
    return ", ".join(f"{n} {name}" for name, n in Counter(found).most_common())


def size(count: int) -> str:
    """Return bytes as KB, MB or GB (powers of a thousand)."""
    if count < 1_000_000:
        return f"{count / 1e3:.1f} KB"
    return f"{count / 1e6:.1f} MB" if count < 1_000_000_000 else f"{count / 1e9:.2f} GB"
