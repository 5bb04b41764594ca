"""docs/reference/complaints.md names tests that exist, and numbers all complaints."""

from __future__ import annotations

import ast
import re

from paths import ROOT, TESTS

TEXT = (ROOT / "docs" / "reference" / "complaints.md").read_text("utf-8")


def test_every_test_that_the_list_of_complaints_names_exists() -> None:
    named = re.findall(r"`([\w/]*test_\w+\.py)(?:::(test_\w+))?`", TEXT)
    assert len(named) > 40
    for file, name in named:
        tree = ast.parse((TESTS / file).read_text("utf-8"))
        found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not name or name in found, f"{file}::{name}"


def test_all_complaints_are_answered_and_yes_has_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.*?) ?\|$", TEXT, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 98))
    for number, _, answer, shown in rows:
        assert answer.split()[0].strip(",:;") in {
            "yes",
            "no",
            "partly",
            "elsewhere",
            "kept",
        }
        assert "test_" in shown or not answer.startswith("yes"), number
