"""The structure of the project: its laws, and the instrument on a tree with known answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paths import ROOT
from structure.functions import find_functions
from structure.graph import count_floors, find_circles
from structure.imports import read_package
from structure.laws import LAWS
from structure.sources import Tree

FILES = {
    "python/quantcal/__init__.py": "from quantcal import low\nfrom quantcal.high import run",
    "python/quantcal/low.py": '''\
"""Counts. It counts values. It has six words in total.

Parameters
----------
values
    Four words are here.
"""
# One comment.
from quantcal import run  # up
_hidden = 1


class Low:
    def _part(self):
        from quantcal.high import run
''',
    "python/quantcal/high.py": """\
from typing import TYPE_CHECKING
from quantcal.low import Low, _hidden
from .onnx import _inner, quantize
if TYPE_CHECKING:
    from quantcal import onnx
def run(low):
    low._part()
    low._other
""",
    "python/quantcal/onnx/__init__.py": "from quantcal.onnx._inner import quantize\n",
    "python/quantcal/onnx/_inner.py": """\
from ..high import run
def quantize(model, /, data, *rest, block_size=1, **more):
    return block_size
""",
    "python/quantcal/report.py": "import quantcal.onnx._inner as inner\n",
    "src/lib.rs": "pub mod low;\npub use low::{Count, Kind};\n",
    "src/low.rs": "use crate::high::{self, low};\nfn f() { /* } */ '{'; \"{\"; }\n",
    "src/high/mod.rs": "use crate::{Count, float::{high}};\n" + "// Why.\nfn g();\n",
    "src/float.rs": "fn long() {\n" + "    1;\n" * 60 + "}\nfn short() {}\n",
    "README.md": "# Not a sentence\n\nThree words here. Two words.\n",
    "docs/guide.md": f"{'word ' * 36}.\n",
    **{f"tests/python/test_{i}.py": "" for i in range(28)},
}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Tree(tmp_path)


@pytest.fixture
def tables(tree: Tree) -> dict[str, list[Any]]:
    """Return what the command prints as JSON: rows, without headers, by title."""
    script = ROOT / "tools" / "house.py"
    done = subprocess.run(
        [sys.executable, script, "--root", tree.root, "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return {title: rows[1:] for title, rows in json.loads(done.stdout).items()}


def test_the_command_prints_tables_of_any_tree(tmp_path: Path) -> None:
    script = ROOT / "tools" / "house.py"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "odd.py").write_text("def f(:", "utf-8")
    for root in (tmp_path, tmp_path / "missing"):
        done = subprocess.run(
            [sys.executable, script, "--root", root],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "Laws" in done.stdout
        assert ("odd.py" in done.stdout) == (root == tmp_path)


def test_full_folders_and_long_functions_are_found(
    tables: dict[str, list[Any]],
) -> None:
    folders = tables["Code files directly in a folder; 1 folders exceed 27"]
    assert folders[0] == ["tests/python", 28]
    assert ["src", 3] in folders
    assert tables["Functions above 60 lines"] == [["src/float.rs:1 long", "rs", 62]]


def test_braces_in_comments_strings_and_characters_do_not_count(tree: Tree) -> None:
    lines = {f.place.split()[1]: f.lines for f in find_functions(tree)}
    assert lines == {
        "_part": 2,
        "run": 3,
        "quantize": 2,
        "f": 1,
        "long": 62,
        "short": 1,
    }


def test_comments_and_code_are_counted(tables: dict[str, list[Any]]) -> None:
    rows = tables["Lines of comments, and of code"]
    assert [row[:4] for row in rows] == [["python", "py", 1, 20], ["src", "rs", 1, 69]]


def test_circles_and_floors_of_a_graph_are_known() -> None:
    graph: dict[str, set[str]] = {
        "a": {"b"},
        "b": {"c"},
        "c": {"b", "d"},
        "d": set(),
        "e": {"e"},
    }
    assert find_circles(graph) == [["b", "c"]]
    assert count_floors(graph) == 3
    assert count_floors({}) == 0


def test_imports_are_distinguished_by_place(tree: Tree) -> None:
    found = {(a.source, a.target, a.name, a.place) for a in read_package(tree).imports}
    assert found == {
        ("quantcal", "quantcal.low", "", "top"),
        ("quantcal", "quantcal.high", "run", "top"),
        ("quantcal.low", "quantcal", "run", "top"),
        ("quantcal.low", "quantcal.high", "run", "function"),
        ("quantcal.high", "quantcal.low", "Low", "top"),
        ("quantcal.high", "quantcal.low", "_hidden", "top"),
        ("quantcal.high", "quantcal.onnx._inner", "", "top"),
        ("quantcal.high", "quantcal.onnx", "quantize", "top"),
        ("quantcal.high", "quantcal.onnx", "", "typing"),
        ("quantcal.onnx", "quantcal.onnx._inner", "quantize", "top"),
        ("quantcal.onnx._inner", "quantcal.high", "run", "top"),
        ("quantcal.report", "quantcal.onnx._inner", "", "top"),
    }


def test_circles_and_upward_arrows_are_found(tables: dict[str, list[Any]]) -> None:
    assert ["quantcal", 4, "__init__ high low onnx"] in tables[
        "Circles of imports at top"
    ]
    title = "Arrows that run up: a folder's façade imported by its own modules"
    assert tables[title] == [["quantcal", 1, 0, 0]]
    assert tables["Arrows that run up, one by one: 1"] == [
        ["python/quantcal/low.py:9 quantcal.run (top)"]
    ]


def test_private_names_of_other_modules_are_found(tables: dict[str, list[Any]]) -> None:
    assert tables["Imports of private names: 3"] == [
        ["python/quantcal/high.py:2 quantcal.low._hidden (top)"],
        ["python/quantcal/high.py:3 quantcal.onnx._inner (top)"],
        ["python/quantcal/report.py:1 quantcal.onnx._inner (top)"],
    ]
    assert tables["Private attributes of other modules: 1"] == [
        ["python/quantcal/high.py:7 low._part"]
    ]


def test_rooms_of_the_crate_are_known_by_what_they_use(
    tables: dict[str, list[Any]],
) -> None:
    [row] = tables["Uses between the Rust modules directly in src, by `crate::`"]
    assert row == [3, 3, 2, 1]  # low and high use each other; high uses float
    assert tables["Circles of Rust modules"] == [["high low"]]


def test_options_are_counted(tables: dict[str, list[Any]]) -> None:
    assert [row[1] for row in tables["Options"]] == [3, 1, 2]


def test_words_a_sentence_are_counted(tables: dict[str, list[Any]]) -> None:
    assert tables["Words a sentence, documents"] == [
        ["README.md", 3, 2, 2.5, 3, 0.0],
        ["docs/guide.md", 1, 1, 36.0, 36, 100.0],
    ]
    code = {
        row[0]: row[2:5] for row in tables["Words a sentence, docstrings and comments"]
    }
    # 1, 3 and 6 words, 4 of a parameter, 2 and 1 of comments.
    assert code["python/quantcal"] == [6, pytest.approx(17 / 6), 6]
    assert code["src/high"] == [1, 1.0, 1]


def test_laws_are_broken_on_this_tree(tables: dict[str, list[Any]]) -> None:
    assert dict(tables["Laws"]) == {
        "no import circle": 1,
        "no import of quantcal itself inside": 1,
        "at most 27 code files in a folder": 1,
        "no function named like its module": 0,
        "README.md of at most 130 lines": 0,
        "ARCHITECTURE.md of at most 150 lines": 0,
        "benches/README.md of at most 100 lines": 0,
    }


def test_functions_that_hide_a_module_are_found(tmp_path: Path) -> None:
    files = {
        "fetch.py": "def fetch(): ...\ndef other(): ...",
        "room/__init__.py": "from quantcal.fetch import other\nfrom . import part",
        "room/other.py": "class other: ...",
        "room/part.py": "def whole():\n    from quantcal.fetch import fetch as part",
        "cli/show.py": "def show(): ...",
        "cli/output/line.py": "def line(): ...",
    }
    for name, text in files.items():
        path = tmp_path / "python" / "quantcal" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    assert sorted(LAWS["no function named like its module"](Tree(tmp_path))) == [
        "python/quantcal/cli/output/line.py:1 line",
        "python/quantcal/fetch.py:1 fetch",
        "python/quantcal/room/__init__.py:1 quantcal.fetch.other (top)",
    ]


@pytest.mark.parametrize("law", LAWS)
def test_the_project_keeps_its_laws(law: str) -> None:
    assert LAWS[law](Tree(ROOT)) == []
