"""Rooms: what lies directly in a folder, and the arrows between."""

from __future__ import annotations

from dataclasses import dataclass

from structure.graph import count_floors, find_circles
from structure.imports import FACADE, FUNCTION, TOP, TYPING, Package

PLACES = (TOP, FUNCTION, TYPING)
HEADER = [
    "folder",
    "rooms",
    "arrows",
    *(f"at {place}" for place in PLACES),
    "floors",
    "at top",
    "circles",
    "at top",
    "top+function",
]
_FEWEST_ROOMS = 10  # of a folder that is shown


@dataclass(frozen=True)
class View:
    """The graph of the rooms of one folder.

    The rooms are the modules and the folders directly in it. A folder imports what its
    modules import. ``__init__`` is a room too.
    """

    name: str
    rooms: set[str]
    arrows: dict[str, set[tuple[str, str]]]  # by the place of the import

    def graph(self, *places: str) -> dict[str, set[str]]:
        """Return the rooms that each room imports at some places."""
        graph: dict[str, set[str]] = {room: set() for room in self.rooms}
        for place in places:
            for source, target in self.arrows[place]:
                graph[source].add(target)
        return graph

    def row(self) -> list[object]:
        """Return the numbers below `HEADER`."""
        top, everything = self.graph(TOP), self.graph(*PLACES)
        return [
            self.name,
            len(self.rooms),
            sum(map(len, everything.values())),
            *(len(self.arrows[place]) for place in PLACES),
            count_floors(everything),
            count_floors(top),
            len(find_circles(everything)),
            len(find_circles(top)),
            len(find_circles(self.graph(TOP, FUNCTION))),
        ]


def view_modules(package: Package) -> View:
    """Return the view in which every module is a room."""
    arrows: dict[str, set[tuple[str, str]]] = {place: set() for place in PLACES}
    for arrow in package.imports:
        if arrow.target in package.modules:
            arrows[arrow.place].add((arrow.source, arrow.target))
    return View("all modules", set(package.modules), arrows)


def view_folders(package: Package) -> list[View]:
    """Return the views of the package and of its folders with many rooms."""
    folders = {name.rsplit(".", 1)[0] for name in package.modules if "." in name}
    views = [_view_folder(package, folder) for folder in sorted(folders)]
    return [v for v in views if v.name == FACADE or len(v.rooms) >= _FEWEST_ROOMS]


def _view_folder(package: Package, folder: str) -> View:
    room_of = {
        name: (name.split(".")[folder.count(".") + 1] if name != folder else "__init__")
        for name in package.modules
        if name == folder or name.startswith(f"{folder}.")
    }
    arrows: dict[str, set[tuple[str, str]]] = {place: set() for place in PLACES}
    for arrow in package.imports:
        if arrow.source in room_of and arrow.target in room_of:
            source, target = room_of[arrow.source], room_of[arrow.target]
            if source != target:
                arrows[arrow.place].add((source, target))
    return View(folder, set(room_of.values()), arrows)
