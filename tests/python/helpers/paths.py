"""The project's folders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests" / "python"
HELPERS = TESTS / "helpers"
GOLDEN = ROOT / "tests" / "golden"
