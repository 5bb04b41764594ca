"""Every command in the documentation has the options that it is shown with."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from paths import ROOT

pytest.importorskip("typer")

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(?:sh|bash)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^quantcal .*$", re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Return the words of each call of quantcal in the shell blocks of a page."""
    blocks = (block.replace("\\\n", " ") for block in BLOCK.findall(text))
    lines = (line for block in blocks for line in COMMAND.findall(block))
    return [shlex.split(line, comments=True) for line in lines]


@cache
def options(command: str) -> frozenset[str]:
    """Return the options that the help of a command names."""
    done = subprocess.run(
        [sys.executable, "-m", "quantcal", command, "--help"],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout))


CALLS = {
    f"{page.relative_to(ROOT).as_posix()}: {shlex.join(words)}": words
    for page in PAGES
    for words in commands(page.read_text("utf-8"))
}


def test_commands_are_found_with_their_words() -> None:
    text = "```sh\nquantcal a x -o y \\\n  --z '1 2'  # why\nls\n```\nquantcal b\n"
    assert commands(text) == [["quantcal", "a", "x", "-o", "y", "--z", "1 2"]]
    assert len(CALLS) > 40


def test_every_command_has_the_options_that_it_is_shown_with() -> None:
    unknown = {
        name: wrong
        for name, (_, command, *words) in CALLS.items()
        if (wrong := [w for w in words if is_option(w) and w not in options(command)])
    }
    assert not unknown


def is_option(word: str) -> bool:
    return re.fullmatch(r"--?[a-zA-Z][\w-]*", word) is not None
