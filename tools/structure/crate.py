"""The uses between the modules of the Rust crate."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from reading.rust import RustFile

_USE = re.compile(r"\bcrate::(?:(\w+)|\{)")
_EXPORT = re.compile(r"\bpub\s+use\s+(?:crate::|self::)?(\w+)::([^;]+);")
_ITEM = re.compile(r"\w+")


def crate_graph(files: list[RustFile]) -> dict[str, set[str]]:
    """Return the rooms that each room names by `crate::`.

    A room is a module directly below the crate. A name that `lib.rs` exports again stands
    for the room that defines it.
    """
    rooms = {_room(file.path) for file in files} - {"lib", "main"}
    exported = {
        name: room
        for file in files
        if file.path == "src/lib.rs"
        for room, names in _EXPORT.findall(file.code)
        for name in _ITEM.findall(names)
    }
    graph: dict[str, set[str]] = {room: set() for room in rooms}
    for file in files:
        source = _room(file.path)
        if source in rooms:
            named = (exported.get(name, name) for name in _names(file.code))
            graph[source] |= {room for room in named if room in rooms - {source}}
    return graph


def _room(path: str) -> str:
    return PurePosixPath(path).parts[1].removesuffix(".rs")


def _names(code: str) -> set[str]:
    """Return the first names behind `crate::`, also those in braces."""
    found: set[str] = set()
    for match in _USE.finditer(code):
        found.update([match[1]] if match[1] else _first_names(code, match.end()))
    return found


def _first_names(code: str, start: int) -> set[str]:
    """Return the names directly in the braces that open before `start`."""
    depth, expected = 0, True
    found: set[str] = set()
    for match in re.compile(r"[{},]|\w+").finditer(code, start):
        token = match[0]
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
            if depth < 0:
                break
        elif token == ",":
            expected = expected or depth == 0
        elif expected and depth == 0:
            found.add(token)
            expected = False
    return found
