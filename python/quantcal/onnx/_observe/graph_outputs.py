"""Observe tensors as additional outputs of the model: slower, but any runtime supports it.

A sample's tensors are recorded and dropped before the next sample is read, so memory does
not grow with the number of samples. Within one sample the tensors of a group are alive
together, and a group fits a memory limit. Tensors inside subgraphs cannot be outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.memory_groups import GroupedRun
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class GraphOutputsObserver:
    """Runs samples with groups of tensors as outputs.

    Parameters
    ----------
    work : Workspace
    types : mapping of str to str
        The tensors of the main graph to record, with onnxruntime's types.
    calibrators : sequence of Calibrator
        The calibrators that record them, in turns.
    max_memory : int
        Maximum bytes of a group.
    """

    def __init__(
        self,
        work: Workspace,
        types: Mapping[str, str],
        calibrators: Sequence[Calibrator],
        max_memory: int,
    ) -> None:
        self._run = GroupedRun(work, types, max_memory)
        self._calibrators = calibrators

    def observe(self, feed: Feed, where: str, turn: int = 0) -> None:
        """Record one sample, group by group, for the calibrator whose turn it is.

        Each tensor is dropped as soon as it is recorded: a group must not stay alive
        while the next one runs.
        """
        for arrays in self._run(feed, where):
            for name in list(arrays):
                try:
                    self._calibrators[turn].observe(name, arrays.pop(name))
                except CalibrationError as error:
                    raise CalibrationError(f"{where}: {error}") from error

    def recorded(self) -> tuple[()]:
        """Return what the calibrators do not have yet, which is nothing."""
        return ()

    def finish(self) -> None:
        """Do nothing: each tensor was recorded at once."""
