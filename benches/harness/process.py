"""The command that runs a module of this project in a fresh interpreter."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The project's folder. Commands run in it, so that they find `benches` and `tests`."""

DOCS = ROOT / "docs"


def command(module: str, *arguments: object) -> list[str]:
    """Return the command for `python -m module`; run it with ``cwd=ROOT``."""
    return [sys.executable, "-m", module, *map(str, arguments)]
