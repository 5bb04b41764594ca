"""Numbers and names in a form for people."""

from __future__ import annotations

from quantcal._text import NONE, amount, decibels, plural, real, share, shorten

__all__ = [
    "NONE",
    "amount",
    "decibels",
    "listed",
    "plural",
    "real",
    "share",
    "shorten",
    "size",
]


def size(count: int) -> str:
    """Return bytes as KB, MB or GB (powers of a thousand)."""
    if count < 1_000_000:
        return f"{count / 1e3:.1f} KB"
    return f"{count / 1e6:.1f} MB" if count < 1_000_000_000 else f"{count / 1e9:.2f} GB"


def listed(names: list[str], most: int = 5) -> str:
    """Return some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
