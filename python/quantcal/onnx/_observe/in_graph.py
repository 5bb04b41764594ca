"""Observe tensors while the model runs: an operator after each one counts it and passes it on.

The operator ``quantcal::Observe`` is in the extension module, which onnxruntime loads
like any library of operators. A tensor is counted while it is alive, and freed as in
plain inference. So memory is near that of plain inference, whatever the number of tensors
and samples. Tensors inside ``If``, ``Loop`` and ``Scan`` are observed too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._graph.graph import names_of, subgraphs, unique_name
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    import onnxruntime

DOMAIN = "quantcal"
# onnxruntime puts this before the message of a failed operator.
_STATUS = "Status Message: "


class InGraphObserver:
    """Runs samples through a model with an observing operator after each tensor.

    Parameters
    ----------
    work : Workspace
    names : iterable of str
        The tensors to record, of the main graph or of subgraphs.
    calibrators : sequence of Calibrator
        The calibrators that get the records when all samples have run. All have the
        same settings.

    Raises
    ------
    CalibrationError
        When onnxruntime cannot load the operator, or the model with it.
    """

    def __init__(
        self,
        work: Workspace,
        names: Iterable[str],
        calibrators: Sequence[Calibrator],
    ) -> None:
        self._calibrators = calibrators
        self._names = list(names)
        self._stats = [
            [_core.TensorStats(each.mantissa_bits) for _ in self._names]
            for each in calibrators
        ]
        # The operators hold the recorders once the session is open, so `taps` may be
        # freed at the end of this function.
        taps = _core.Taps(
            list(zip(self._names, self._stats[0], strict=True)),
            finite_only=calibrators[0].on_nonfinite == "raise",
        )
        self._turn = 0  # the calibrator whose records the operators hold
        positions = {name: index for index, name in enumerate(self._names)}

        def instrumented(proto: onnx.ModelProto) -> None:
            insert_observers(proto, positions, taps.number)

        self.session = work.open_changed(
            instrumented, prepare=load_operator, taps=(taps.number, len(positions))
        )
        self._outputs = [value.name for value in self.session.get_outputs()]

    def observe(self, feed: Feed, where: str, turn: int = 0) -> None:
        """Run one sample for the calibrator whose turn it is.

        Each tensor is recorded as soon as it is computed.
        """
        self._take(turn)
        try:
            run(self.session, self._outputs, feed, where, whole=True)
        except CalibrationError as error:
            cause = str(error.__cause__)
            if _STATUS not in cause or "Observe" not in cause:
                raise
            message = cause.partition(_STATUS)[2]
            raise CalibrationError(f"{where}: {message}") from error

    def recorded(self) -> Iterable[tuple[str, _core.TensorStats]]:
        """Return copies of the records up to now; recording continues."""
        self._take(0)
        for recorded in self._stats:
            for name, stats in zip(self._names, recorded, strict=True):
                if stats.observations:
                    yield name, stats.copy()

    def finish(self) -> None:
        """Give the records to the calibrators, without tensors of branches that never ran."""
        self._take(0)
        for calibrator, recorded in zip(self._calibrators, self._stats, strict=True):
            tensors = zip(self._names, recorded, strict=True)
            calibrator.add_stats(
                [(n, stats) for n, stats in tensors if stats.observations]
            )

    def _take(self, turn: int) -> None:
        """Let the operators record for one calibrator.

        The operators keep the same recorders for the whole session. So the contents of
        the recorders are swapped, and the calibrators take turns in one session.
        """
        if turn == self._turn:
            return
        for other in (self._turn, turn):  # restore the first, then swap in the next
            for ours, theirs in zip(self._stats[0], self._stats[other], strict=True):
                ours.swap(theirs)
        self._turn = turn


def load_operator(options: onnxruntime.SessionOptions) -> None:
    """Register the operator for a session that will be opened."""
    try:
        options.register_custom_ops_library(_core.__file__)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise CalibrationError(
            f"onnxruntime cannot load quantcal's operator: {error}"
        ) from error


def insert_observers(
    proto: onnx.ModelProto, positions: Mapping[str, int], number: int
) -> None:
    """Insert an operator after each tensor; the operator's output takes over its name.

    Nothing else changes: readers in this graph or in a subgraph now read the output of
    the operator.

    Parameters
    ----------
    proto : ModelProto
        Changed in place.
    positions : mapping of str to int
        Tensor → index of its recorder. Inputs of the main graph are not changed.
    number : int
        The number that identifies the set of recorders.
    """
    import onnx

    taken = names_of(proto.graph)

    def observer(name: str) -> onnx.NodeProto:
        return onnx.helper.make_node(
            "Observe",
            [unique_name(f"{name}_unobserved", taken)],
            [name],
            f"Observe {name}",
            domain=DOMAIN,
            taps=number,
            position=positions[name],
        )

    def visit(graph: onnx.GraphProto, given: Iterable[onnx.ValueInfoProto]) -> None:
        nodes = []
        for value in given:
            if value.name in positions:
                nodes.append(observer(value.name))
                value.name = nodes[-1].input[0]
        for node in graph.node:
            for inner in subgraphs(node):
                visit(inner, inner.input)
            nodes.append(node)
            for index, name in enumerate(node.output):
                if name in positions:
                    nodes.append(observer(name))
                    node.output[index] = nodes[-1].input[0]
        del graph.node[:]
        graph.node.extend(nodes)

    visit(proto.graph, ())
    proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
