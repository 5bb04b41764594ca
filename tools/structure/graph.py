"""Directed graphs: circles, and floors above each other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def find_circles(graph: Mapping[Node, Set[Node]]) -> list[list[Node]]:
    """Return the strongly connected components of two and more nodes."""
    found = [part for part in _components(graph) if len(part) > 1]
    return sorted((sorted(part, key=str) for part in found), key=str)


def count_floors(graph: Mapping[Node, Set[Node]]) -> int:
    """Return the nodes on the longest path, a circle counted as one node."""
    parts = _components(graph)
    part_of = {node: i for i, part in enumerate(parts) for node in part}
    floors: list[int] = []
    # Components come before those that point at them.
    for i, part in enumerate(parts):
        below = {part_of[to] for node in part for to in graph[node] if to in part_of}
        floors.append(1 + max((floors[j] for j in below if j != i), default=0))
    return max(floors, default=0)


def _components(graph: Mapping[Node, Set[Node]]) -> list[list[Node]]:
    """Return all strongly connected components, by Tarjan's algorithm."""
    order: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    on_stack: set[Node] = set()
    parts: list[list[Node]] = []

    def visit(node: Node) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        on_stack.add(node)
        for to in sorted(graph[node], key=str):
            if to not in graph:
                continue
            if to not in order:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in on_stack:
                low[node] = min(low[node], order[to])
        if low[node] == order[node]:
            start = stack.index(node)
            parts.append(stack[start:])
            on_stack.difference_update(stack[start:])
            del stack[start:]

    for node in sorted(graph, key=str):
        if node not in order:
            visit(node)
    return parts
