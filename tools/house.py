"""Print the structure of the project, to compare it before and after a change.

Run as ``python tools/house.py``, for another tree with ``--root PATH``. Exits 0.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from structure import language, rooms
from structure.crate import crate_graph
from structure.functions import MOST_LINES, count_functions, find_functions
from structure.graph import count_floors, find_circles
from structure.imports import TOP, Package, read_package
from structure.laws import LAWS, MOST_FILES
from structure.options import option_places, quantize_arguments
from structure.sizes import count_comments, count_folders, count_lines
from structure.sources import Tree
from structure.tables import format_table

_SHOWN, _SHOWN_FILES = 10, 5


@dataclass(frozen=True)
class Table:
    """Rows below a header; `shown` limits what is printed, not what JSON has."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    shown: int | None = None

    def __str__(self) -> str:
        left_out = len(self.rows) - (self.shown or len(self.rows))
        more = f" ({left_out} more with --json)" if left_out > 0 else ""
        rows = self.rows[: self.shown]
        return format_table(f"{self.title}{more}", self.header, rows)


def size_tables(tree: Tree) -> Iterator[Table]:
    """Yield the sizes of folders, files and functions."""
    folders = count_folders(tree)
    full = sum(number > MOST_FILES for _, number in folders)
    title = f"Code files directly in a folder; {full} folders exceed {MOST_FILES}"
    yield Table(title, ["folder", "files"], folders, _SHOWN)
    header = ["file", "lines"]
    yield Table("Largest Python files", header, count_lines(tree.python), _SHOWN_FILES)
    yield Table("Largest Rust files", header, count_lines(tree.rust), _SHOWN_FILES)
    functions = find_functions(tree)
    header = ["folder", "language", "functions", f"above {MOST_LINES} lines", "longest"]
    title = "Lines of functions (Rust: by counting braces)"
    yield Table(title, header, count_functions(functions))
    long = [function for function in functions if function.lines > MOST_LINES]
    title = f"Functions above {MOST_LINES} lines"
    yield Table(title, ["function", "language", "lines"], long, _SHOWN)
    header = ["folder", "language", "comments", "code", "share %"]
    title = "Lines of comments, and of code"
    yield Table(title, header, count_comments(tree))


def import_tables(package: Package) -> Iterator[Table]:
    """Yield the imports of the Python package."""
    views = [rooms.view_modules(package), *rooms.view_folders(package)]
    title = "Imports of the Python package; a room is a module or folder directly in it"
    yield Table(title, rooms.HEADER, [view.row() for view in views])
    for places in ((TOP,), rooms.PLACES):
        circles = [
            (view.name, len(circle), " ".join(circle))
            for view in views
            for circle in find_circles(view.graph(*places))
        ]
        title = f"Circles of imports at {', '.join(places)}"
        yield Table(title, ["folder", "rooms", "circle"], circles)
    upward = package.facade_imports()
    counts = Counter((arrow.target, arrow.place) for arrow in upward)
    rows = [
        (facade, *(counts[facade, place] for place in rooms.PLACES))
        for facade in sorted({arrow.target for arrow in upward})
    ]
    title = "Arrows that run up: a folder's façade imported by its own modules"
    yield Table(title, ["façade", *rooms.PLACES], rows)
    yield _list("Arrows that run up, one by one", upward)
    yield _list("Imports of private names", package.private_imports())
    title = "Private attributes of other modules"
    yield _list(title, package.private_attributes())


def _list(title: str, found: Sequence[object]) -> Table:
    return Table(
        f"{title}: {len(found)}", ["place"], [(str(f),) for f in found], _SHOWN
    )


def crate_tables(tree: Tree) -> Iterator[Table]:
    """Yield the uses between the modules of the crate."""
    graph = crate_graph(tree.crate)
    circles = find_circles(graph)
    arrows = sum(map(len, graph.values()))
    row = [len(graph), arrows, count_floors(graph), len(circles)]
    title = "Uses between the Rust modules directly in src, by `crate::`"
    yield Table(title, ["rooms", "arrows", "floors", "circles"], [row])
    yield Table("Circles of Rust modules", ["circle"], [[" ".join(c)] for c in circles])


def option_tables(tree: Tree, package: Package, option: str) -> Iterator[Table]:
    """Yield how often an option is written down."""
    arguments = quantize_arguments(package)
    places = option_places(tree, option)
    total = sum(number for _, number in places)
    rows: list[tuple[str, object]] = [
        ("arguments of quantcal.onnx.quantize", arguments),
        (f"files that name {option}", len(places)),
        (f"occurrences of {option}", total),
    ]
    yield Table("Options", ["what", "number"], rows)
    yield Table(f"Where {option} stands", ["file", "occurrences"], places, _SHOWN)


def build_tables(tree: Tree, option: str) -> Iterator[Table]:
    """Yield all tables."""
    package = read_package(tree)
    yield from size_tables(tree)
    yield from import_tables(package)
    yield from crate_tables(tree)
    yield from option_tables(tree, package, option)
    for title, prose in (
        ("Words a sentence, documents", language.measure_documents(tree)),
        ("Words a sentence, docstrings and comments", language.measure_code(tree)),
    ):
        yield Table(title, language.HEADER, [item.row() for item in prose])
    yield _list("Python files that cannot be parsed", tree.invalid)
    laws = [[name, len(check(tree))] for name, check in LAWS.items()]
    yield Table("Laws", ["law", "broken"], laws)


def main() -> None:
    """Measure a tree and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", action="store_true", help="print all rows as JSON")
    parser.add_argument(
        "--option", default="block_size", help="the option that is counted"
    )
    options = parser.parse_args()
    tables = list(build_tables(Tree(options.root.resolve()), options.option))
    if options.json:
        print(
            json.dumps({t.title: [list(t.header), *map(list, t.rows)] for t in tables})
        )
    else:
        print(*tables, sep="\n")


if __name__ == "__main__":
    main()
