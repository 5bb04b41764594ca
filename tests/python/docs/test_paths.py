"""Every path in backticks in ARCHITECTURE.md and CONTRIBUTING.md exists."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fnmatch import fnmatch

import pytest

from paths import ROOT

FOLDERS = ("benches", "docs", "examples", "python", "research", "src", "tests", "tools")
CODE = re.compile(r"`([^`\n]+)`")
# A word with a slash, or a file name. Quoted words are examples of arguments.
PATH = re.compile(r"[\w.{},-]*/[\w./{},-]*|[\w-]+\.(?:json|md|py|pyi|rs|toml)")
BRACES = re.compile(r"\{([^}]*)\}")


def alternatives(path: str) -> Iterator[str]:
    """Yield the paths that braces stand for."""
    found = BRACES.split(path)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(found)]
    yield from map("".join, itertools.product(*choices))


def paths_in(text: str) -> list[str]:
    words = (word for code in CODE.findall(text) for word in code.split())
    named = (word for word in words if PATH.fullmatch(word))
    return [path for word in named for path in alternatives(word)]


@pytest.fixture(scope="module")
def tree() -> list[str]:
    """Return all files, and all folders with a slash at the end."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [ROOT / folder for folder in FOLDERS]
    found += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return [
        f"/{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}"
        for path in found
    ]


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_path_in_backticks_exists(page: str, tree: list[str]) -> None:
    named = paths_in((ROOT / page).read_text("utf-8"))
    assert len(named) > 20
    # A path may start at the folder that its row is about. NAME stands for any name.
    missing = [
        path
        for path in named
        if not any(fnmatch(each, f"*/{path.replace('NAME', '*')}") for each in tree)
    ]
    assert not missing


def test_paths_are_found_in_commands_and_braces() -> None:
    text = '`python a/b.py`, `a/{b,c}/`, `d.rs`, `qc.load("e.json")`, `f.g` and h/i.py'
    assert paths_in(text) == ["a/b.py", "a/b/", "a/c/", "d.rs"]
