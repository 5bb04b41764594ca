"""Pages that the navigation does not name yet go to the end of their section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDERS = {
    "Start": "start",
    "Guides": "guide",
    "Migration": "migration",
    "Reference": "reference",
    "Measurements": "measurements",
    "Inside": "design",
}
"""Section → the folder of its pages."""


def complete(navigation: list[Any], docs: Path) -> None:
    """Add what is missing to the sections of a navigation, in place."""
    named = set(_pages(navigation))
    for section in navigation:
        (title, entries), *_ = (
            section.items() if isinstance(section, dict) else [("", [])]
        )
        if title in FOLDERS:
            paths = sorted((docs / FOLDERS[title]).glob("*.md"))
            found = [path.relative_to(docs).as_posix() for path in paths]
            entries += [page for page in found if page not in named]


def _pages(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in _pages(part)]
