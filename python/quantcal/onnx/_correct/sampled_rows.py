"""Single values of products, at places that are spread evenly: which channels a shift helps.

A mean says nothing about the values behind it. Where a range clips massive activations, a
few tokens lose very much and all others nothing. The mean error of a channel is then that of
a few tokens. As a bias it would be added to every token, and most values would be farther
from the float model than before. Such a channel is not shifted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._correct.bias_targets import Target
from quantcal.onnx._graph.graph import unique_name
from quantcal.onnx._runtime.array_store import ArrayStore

if TYPE_CHECKING:
    import onnx

Rows = NDArray[np.float32]
"""Shape (places, channels)."""

PLACES = 4096
"""The number of places over all samples. The share of the values that come nearer is then
known to one or two percent."""

_CHANCE = 1.0
"""Standard deviations. A mean error far below the rounding error brings half of the values
nearer, give or take what chance does."""

_FEWEST = 16  # places of a sample, however many samples there are
_END = np.iinfo(np.int64).max


def places_of(samples: int) -> int:
    """Return the number of places in each of so many samples."""
    return max(_FEWEST, PLACES // max(samples, 1))


class RowStore:
    """The rows of the float model's products, by node and sample."""

    def __init__(self) -> None:
        self._store = ArrayStore()
        self._index: dict[tuple[str, int], int] = {}

    def add(self, name: str, sample: int, rows: Rows) -> None:
        """Keep the rows of a node in a sample."""
        self._index[name, sample] = len(self._store)
        self._store.append([rows])

    def get(self, name: str, sample: int) -> Rows:
        """Return them."""
        found: Rows = self._store[self._index[name, sample]][0]
        return found

    def close(self) -> None:
        """Delete them."""
        self._store.close()


class Votes:
    """Counts the values by channel that a shift brings nearer to the float model."""

    def __init__(self, channels: Mapping[str, int]) -> None:
        self._errors: dict[str, list[Rows]] = {name: [] for name in channels}

    def add(self, name: str, wanted: Rows, found: Rows) -> None:
        """Add what the values of one sample lack."""
        if wanted.shape == found.shape:
            with np.errstate(invalid="ignore"):
                self._errors[name].append(wanted - found)

    def helped(self, name: str, shift: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which channels may be shifted.

        Those where clearly less than half of the values would come nearer may not.
        """
        errors = np.concatenate([*self._errors[name], np.zeros((0, len(shift)))])
        # |e - m| < |e|, without the cancellation of both sides.
        nearer = (errors * shift > shift * shift / 2).sum(axis=0)
        least = (len(errors) - _CHANCE * len(errors) ** 0.5) / 2
        found: NDArray[np.bool_] = nearer >= least
        return found


def row_nodes(
    target: Target, raw: str, rows: str, places: int, taken: set[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return nodes and constants that put some values of a tensor into ``rows``.

    Parameters
    ----------
    target : Target
    raw : str
        The products: [batch, channels, …] of a Conv, else [..., channels].
    rows : str
        The tensor that is made. :func:`as_rows` reads it.
    places : int
        The number of places at most, batch apart.
    taken : set of str
        The names of the graph.
    """
    import onnx

    helper = onnx.helper
    conv = target.axis < -1
    flat, shape, size, more, step, least = (
        unique_name(f"{rows}_{what}", taken)
        for what in ("flat", "shape", "size", "more", "step", "least")
    )
    axis = 1 if conv else 0
    values = {
        "axis": [axis],
        "ends": [_END],
        "starts": [0],
        "places": [places],
        "round": [places - 1],
        "one": [1],
    }
    names = {what: unique_name(f"{rows}_{what}", taken) for what in values}
    constants = [
        onnx.numpy_helper.from_array(np.array(value, np.int64), names[what])
        for what, value in values.items()
    ]
    bounds = [names["starts"], names["ends"], names["axis"], least]
    nodes = [
        helper.make_node("Flatten", [raw], [flat], axis=2 if conv else -1),
        helper.make_node("Shape", [flat], [shape]),
        helper.make_node("Gather", [shape, names["axis"]], [size]),
        helper.make_node("Add", [size, names["round"]], [more]),
        helper.make_node("Div", [more, names["places"]], [step]),
        helper.make_node("Max", [step, names["one"]], [least]),
        helper.make_node("Slice", [flat, *bounds], [rows]),
    ]
    return nodes, constants


def as_rows(target: Target, value: Any, places: int) -> Rows:
    """Return what :func:`row_nodes` made with a row for each place."""
    found: Rows = np.asarray(value)
    if target.axis < -1:
        found = found.reshape(-1, target.channels, found.shape[-1]).transpose(0, 2, 1)
        found = found.reshape(-1, target.channels)
    step = max(1, -(-len(found) // places))  # a batch has more
    return found[::step]
