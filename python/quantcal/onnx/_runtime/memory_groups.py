"""Running a model for many outputs in groups of tensors that fit a memory limit.

Sizes are measured on the samples. In the measuring session, every observed tensor feeds a
``Shape`` node, and only the shapes are returned. onnxruntime runs these nodes first, so it
frees each tensor as early as in plain inference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import names_of, unique_name
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.ort_values import run_session
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    import onnxruntime

OBSERVABLE = {
    "tensor(float16)": 2,
    "tensor(bfloat16)": 2,
    "tensor(float)": 4,
    "tensor(double)": 8,
}
"""The element types that can be observed, by onnxruntime's names: bytes of a value."""


class GroupedRun:
    """Runs a model with at most ``max_memory`` bytes of its tensors in memory.

    Each group of tensors has a session. Every sample runs through all sessions before the
    next one is read, so the data is read once.

    Parameters
    ----------
    work : Workspace
    types : mapping of str to str
        The tensors to return, in graph order, with onnxruntime's types.
    max_memory : int
        The limit in bytes. A larger tensor is a group by itself.
    sets : sequence of sequence of str, optional
        Tensors that are needed at the same time, by default each one alone. A tensor in
        several sets may be in several groups.
    """

    def __init__(
        self,
        work: Workspace,
        types: Mapping[str, str],
        max_memory: int,
        sets: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self._work = work
        self._types = types
        self._max_memory = max_memory
        self._sizes: dict[str, int] = {}
        self._largest_input = 0
        self._sets = [[name] for name in types] if sets is None else sets
        self._members: list[list[int]] = []
        self._groups: list[list[str]] = []
        self._sessions: list[onnxruntime.InferenceSession] = []
        self._shapes: tuple[onnxruntime.InferenceSession, dict[str, str]] | None = None

    @property
    def groups(self) -> int:
        """The current number of groups."""
        return len(self._groups)

    @property
    def members(self) -> list[list[int]]:
        """The indices of the sets in each group, since the last sample's first group."""
        return self._members

    def __call__(self, feed: Feed, where: str) -> Iterator[dict[str, Any]]:
        """Yield the tensors of one sample, group by group."""
        if not self._types:
            return
        self._fit(feed, where)
        for names, session in zip(self._groups, self._sessions, strict=True):
            yield dict(zip(names, run(session, names, feed, where), strict=True))

    def _fit(self, feed: Feed, where: str) -> None:
        """Measure and regroup when this sample may need more memory than earlier ones."""
        size = sum(np.asarray(array).size for array in feed.values())
        if self._sizes and size <= self._largest_input:
            return
        # Attention takes memory by the square of the length. Few operators exceed that.
        growth = (size / max(self._largest_input, 1)) ** 2
        heaviest = max((self._bytes(group) for group in self._groups), default=math.inf)
        if heaviest * growth <= self._max_memory:
            return
        self._largest_input = size
        self._measure(feed, where)
        groups = self._group()
        if groups != self._groups:
            self._sessions.clear()
            self._groups = groups
            self._sessions = [self._work.open(names) for names in groups]

    def _bytes(self, names: list[str]) -> int:
        return sum(self._sizes[name] for name in names)

    def _measure(self, feed: Feed, where: str) -> None:
        if self._shapes is None:
            self._shapes = self._shape_session()
        session, names = self._shapes
        shapes = run(session, list(names), feed, where)
        for name, shape in zip(names.values(), shapes, strict=True):
            size = math.prod(map(int, shape)) * OBSERVABLE.get(self._types[name], 8)
            self._sizes[name] = max(size, self._sizes.get(name, 0))

    def _shape_session(self) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
        import onnx

        taken = names_of(self._work.light.graph)
        outputs: dict[str, str] = {}
        nodes = []
        for node in self._work.light.graph.node:
            nodes.append(node)
            for name in node.output:
                if name in self._types:
                    shape = unique_name(f"{name}_shape", taken)
                    nodes.append(onnx.helper.make_node("Shape", [name], [shape]))
                    outputs[shape] = name
        return self._work.open(outputs, nodes=nodes), outputs

    def _group(self) -> list[list[str]]:
        groups: list[dict[str, None]] = []
        self._members = []
        room = 0
        for index, names in enumerate(self._sets):
            new = [n for n in dict.fromkeys(names) if not groups or n not in groups[-1]]
            if not groups or self._bytes(new) > room:
                groups.append({})
                self._members.append([])
                new = list(dict.fromkeys(names))
                room = self._max_memory
            groups[-1].update(dict.fromkeys(new))
            self._members[-1].append(index)
            room -= self._bytes(new)
        return [list(group) for group in groups]


def run(
    session: onnxruntime.InferenceSession,
    names: list[str],
    feed: Feed,
    where: str,
    *,
    whole: bool = False,
) -> list[Any]:
    """Run one sample. Errors name it and its shapes.

    Only nodes that ``names`` depend on are run, unless ``whole`` is true.
    """
    import onnxruntime as ort

    options = ort.RunOptions()
    options.log_severity_level = 4
    options.only_execute_path_to_fetches = not whole
    try:
        return run_session(session, names, feed, options)
    except CalibrationError as error:
        raise CalibrationError(f"{where}: {error}") from error
    except Exception as error:  # onnxruntime's exceptions have no common base
        shapes = {name: list(np.shape(array)) for name, array in feed.items()}
        raise CalibrationError(
            f"onnxruntime failed on {where} with shapes {shapes}: {error}"
        ) from error
