"""A session that runs a quantized model with any ranges, in exact Q/DQ arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._observe.in_graph import load_operator
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import Workspace
from quantcal.onnx._trial.trial_graph import (
    GRIDS,
    OFF,
    TrialGraph,
    grid_of,
    make_trial_graph,
)
from quantcal.onnx._write.qdq_insertion import insert_qdq
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnxruntime

    from quantcal.onnx._plan.preparation import Prepared

Grids = NDArray[np.float32]
"""Shape (activations, 4): scale, zero point, lowest and highest code of each."""

# As evaluation computes Q/DQ nodes: as they are written.
_EXACT = {"session.disable_quant_qdq": "1"}
# These may give a tensor that is rounded in place to other readers too. Neither changes a
# result: one computes equal nodes once, the other removes additions of zero and the like.
_DISABLED = ("CommonSubexpressionElimination", "NoopElimination")


class TrialSession:
    """Runs a prepared model with grids that change from run to run.

    Results are those of the written model in exact arithmetic, bit for bit, for the ranges
    that it was opened with. With other ranges, weights and biases keep their codes: a
    written model codes biases anew, at the scale of their products. That moves a result
    by half a unit of the 32-bit sums at most.

    Parameters
    ----------
    prepared : Prepared
    ranges : mapping of str to QuantParams
        The ranges with which biases are coded.
    bits : WeightBits
    float_weights : bool
        Leave weights in float, to measure activations alone.
    operators : bool
        Whether to use quantcal's operators; otherwise the plain form, which is slower.

    Attributes
    ----------
    tensors : tuple of str
        The activation of each row of the grids.
    outputs : list of str
        The names of the model's outputs.
    takes_wider : bool
        Whether grids may have more codes than the planned formats. The plain form has
        nodes of these formats, which would clip other codes.
    """

    def __init__(
        self,
        prepared: Prepared,
        ranges: Mapping[str, QuantParams],
        bits: WeightBits,
        *,
        float_weights: bool = False,
        operators: bool = True,
    ) -> None:
        self._prepared, self._ranges, self._bits = prepared, ranges, bits
        self._float_weights = float_weights
        self.takes_wider = operators
        try:
            graph = self._make(operators=operators)
            self._work, self._session = self._open(graph)
        except CalibrationError:
            if not operators:
                raise
            self.takes_wider = False
            graph = self._make(operators=False)
            self._work, self._session = self._open(graph)
        self.tensors = graph.tensors
        self._row = {name: row for row, name in enumerate(self.tensors)}
        self.outputs = [value.name for value in self._session.get_outputs()]

    def __enter__(self) -> TrialSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._work.__exit__()

    def _make(self, *, operators: bool) -> TrialGraph:
        inserted = insert_qdq(
            self._prepared, self._ranges, self._bits, float_weights=self._float_weights
        )
        formats, ranks = self._prepared.plan.formats, self._prepared.ranks
        return make_trial_graph(inserted, formats, ranks, operators=operators)

    def _open(
        self, graph: TrialGraph
    ) -> tuple[Workspace, onnxruntime.InferenceSession]:
        loaded = replace(
            self._prepared.converted, proto=graph.proto, folder=None, file=None
        )
        work = Workspace(loaded, None)
        try:
            session = work.open_changed(
                lambda _: None,
                prepare=load_operator,
                taps=(0, 0),
                optimize=True,
                config=_EXACT,
                disabled=_DISABLED,
            )
        except BaseException:
            work.__exit__()
            raise
        return work, session

    def grids(self, ranges: Mapping[str, QuantParams]) -> Grids:
        """Return the grids of these ranges; activations that have none stay in float."""
        rows = [
            grid_of(ranges[name]) if name in ranges else OFF for name in self.tensors
        ]
        grids: Grids = np.stack([*rows, OFF])[: max(len(rows), 1)]
        return grids

    def rows(self, names: Iterable[str]) -> list[int]:
        """Return the rows of activations."""
        return [self._row[name] for name in names]

    def run(self, feed: Feed, grids: Grids, where: str = "a sample") -> list[Any]:
        """Return the outputs of one sample."""
        return run(self._session, self.outputs, {**feed, GRIDS: grids}, where)


def without(grids: Grids, rows: Sequence[int]) -> Grids:
    """Return the grids with some activations in float."""
    changed: Grids = grids.copy()
    changed[list(rows)] = OFF
    return changed


def only(grids: Grids, rows: Sequence[int]) -> Grids:
    """Return the grids with all other activations in float."""
    changed = np.zeros_like(grids)
    changed[list(rows)] = grids[list(rows)]
    return changed
