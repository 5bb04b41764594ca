"""The table of a quantized model's layers, with the error at each."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from quantcal.cli.output import text
from quantcal.cli.output.tables import Column, tensor_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from quantcal.onnx import LayerError, OutputError


class Sort(str, Enum):
    """The order of layers."""

    GRAPH = "graph"
    LOSS = "loss"
    OWN = "own"

    def order(self, layers: Sequence[LayerError]) -> list[LayerError]:
        """Return the layers in this order, largest errors first."""
        if self is Sort.GRAPH:
            return list(layers)
        return sorted(layers, key=self._size, reverse=True)

    def _size(self, layer: LayerError) -> float:
        error = layer.own if self is Sort.OWN else _accumulated(layer)
        return -1.0 if error is None or error.loss is None else error.loss


def layer_table(layers: Sequence[LayerError], out: Console) -> Table:
    """Return a table of layers; narrow terminals lose the cosine first."""
    columns = [Column("operator", [layer.operator for layer in layers], True, 4)]
    for arithmetic in ("exact", "native"):
        if any(arithmetic in layer.errors for layer in layers):
            cells = [_sqnr(layer.errors.get(arithmetic)) for layer in layers]
            columns.append(Column(f"SQNR {arithmetic}", cells))
    errors = [_accumulated(layer) for layer in layers]
    columns += [
        Column("loss", [text.real(e.loss if e else None) for e in errors], rank=2),
        Column("cosine", [_cosine(e) for e in errors], rank=5),
        Column("SQNR alone", [_sqnr(layer.own) for layer in layers]),
        Column("loss alone", [text.real(_loss(layer.own)) for layer in layers], rank=1),
        Column("tensor", [layer.tensor for layer in layers], True, 3),
    ]
    names = [layer.node for layer in layers]
    return tensor_table(names, columns, out, heading="layer")


def _accumulated(layer: LayerError) -> OutputError | None:
    """Return the error in exact arithmetic, or in the only one."""
    return next(iter(layer.errors.values()), None)


def _sqnr(error: OutputError | None) -> str:
    if error is None or error.sqnr_db is None:
        return text.NONE
    return text.decibels(error.sqnr_db)


def _loss(error: OutputError | None) -> float | None:
    return None if error is None else error.loss


def _cosine(error: OutputError | None) -> str:
    if error is None or error.cosine is None:
        return text.NONE
    return f"{error.cosine:.6f}"
