"""What a whole quantized model costs and saves: bytes, multiply-adds, loss and time.

All operators with weights count, whether or not they were chosen.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._notebook import Shown
from quantcal.onnx._check.files_in_use import weight_files
from quantcal.onnx._graph.graph import all_nodes, constants_of, operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._model.model import model_inputs
from quantcal.onnx._plan.weight_inputs import ALIKE, weight_positions
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._timing.machine import Machine, this_machine
from quantcal.onnx._timing.matching import match_nodes
from quantcal.onnx._timing.measure import time_whole_runs
from quantcal.onnx._timing.node_times import Latency
from quantcal.onnx._timing.sample_counts import first_samples, mean_counts
from quantcal.onnx._timing.timed_model import TimedModel
from quantcal.onnx._write.float_weights import float_bytes
from quantcal.onnx.evaluation import evaluate
from quantcal.onnx.loss_verdict import judge_loss

if TYPE_CHECKING:
    import onnx

_LOSS_SAMPLES = 8
"""So many show whether a model is broken; `evaluate` takes all."""

_ROUNDS = (3, 15)
_TIMED_MS = 2000.0
"""Runs take about two seconds together: a median of three at least, fifteen suffice."""

_NOT_FASTER = 0.95
"""A gain below 5 % is within what other programs on a machine change."""


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """The nodes of one operator, and how many of them are quantized.

    Attributes
    ----------
    nodes, quantized_nodes
        Numbers of nodes with weights, or with counted multiply-adds.
    weight_bytes, quantized_weight_bytes
        Bytes of their weights in the float model.
    multiply_adds, quantized_multiply_adds
        For one sample; 0 where no sample ran.
    """

    nodes: int = 0
    quantized_nodes: int = 0
    weight_bytes: int = 0
    quantized_weight_bytes: int = 0
    multiply_adds: int = 0
    quantized_multiply_adds: int = 0


@dataclass(frozen=True, slots=True)
class ModelCost(Shown):
    """What :func:`measure_cost` found.

    Attributes
    ----------
    float_bytes, quantized_bytes
        Sizes of the files, with weights that lie beside them.
    operators
        Operator type → its nodes, of the float model; most weights first.
    loss
        Squared error over variance of the worst output, natively on this machine; None
        without samples, and where it has no meaning.
    loss_samples
        The number of samples that ran for it.
    float_latency, quantized_latency
        Medians of whole runs of one sample, in turns; None when not measured.
    rounds
        The number of turns.
    machine
        Where it ran.
    """

    float_bytes: int
    quantized_bytes: int
    operators: dict[str, OperatorCost]
    loss: float | None = None
    loss_samples: int = 0
    float_latency: Latency | None = None
    quantized_latency: Latency | None = None
    rounds: int = 0
    machine: Machine | None = None

    @property
    def speedup(self) -> float | None:
        """The float model's median time divided by the quantized one's."""
        if self.float_latency is None or self.quantized_latency is None:
            return None
        return self.float_latency.median_ms / self.quantized_latency.median_ms

    @property
    def loss_verdict(self) -> str:
        """A word about the loss; empty when it is not known."""
        return "" if self.loss is None else judge_loss(self.loss)

    @property
    def is_faster(self) -> bool | None:
        """Whether integers save at least 5 % of the time here; None when not measured.

        False too where the times vary by more than the gain, as on a busy machine.
        """
        speedup = self.speedup
        if speedup is None:
            return None
        return 1 / speedup <= _NOT_FASTER and not self.is_uncertain

    @property
    def is_uncertain(self) -> bool:
        """Whether the times vary by more than they differ."""
        before, after = self.float_latency, self.quantized_latency
        if before is None or after is None:
            return True
        spread = max(before.spread_ms, after.spread_ms)
        return abs(before.median_ms - after.median_ms) <= spread

    def total(self) -> OperatorCost:
        """Return the sums over all operators."""
        rows = [asdict(each) for each in self.operators.values()]
        names = OperatorCost.__dataclass_fields__
        return OperatorCost(**{name: sum(row[name] for row in rows) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        return {**asdict(self), "speedup": self.speedup, "verdict": self.loss_verdict}


@shared_child()
def measure_cost(
    float_model: str | os.PathLike[str],
    quantized_model: str | os.PathLike[str],
    samples: object = None,
    *,
    latency: bool = True,
) -> ModelCost:
    """Measure what a quantized model costs and saves as a whole.

    Parameters
    ----------
    float_model, quantized_model
        Paths of a model and of its quantized copy.
    samples
        As for :func:`quantcal.onnx.observe`; None measures sizes only. The first one counts
        multiply-adds and is timed, and the first eight give the loss.
    latency
        Time whole runs of both models in turns, for about two seconds.

    Raises
    ------
    CalibrationError
        When a model cannot be loaded or run, or a sample does not fit.

    Examples
    --------
    >>> model, made = "model.onnx", "int8.onnx"
    >>> result = qc.onnx.quantize(model, made, "calibration/", strategy="mse")
    >>> cost = qc.onnx.measure_cost(model, made, "calibration/", latency=False)
    >>> cost.operators["Conv"].quantized_nodes
    2
    """
    models = TimedModel(float_model, 0), TimedModel(quantized_model, 0)
    first, second = models
    quantized = _quantized(first, second)
    sizes = model_bytes(Path(float_model)), model_bytes(Path(quantized_model))
    if samples is None:
        return ModelCost(*sizes, _operators(first.graph, quantized, {}))
    inputs = model_inputs(first.loaded.proto)
    chosen = first_samples(samples, inputs, _LOSS_SAMPLES)
    counts = mean_counts(first.loaded, chosen[:1])
    feeds = [sample.feed for sample in chosen]
    found = evaluate(
        float_model, quantized_model, feeds, arithmetics="native", progress=False
    )
    errors = [by["native"].loss for by in found.outputs.values()]
    known = [loss for loss in errors if loss is not None]
    cost = ModelCost(
        *sizes,
        operators=_operators(first.graph, quantized, counts),
        loss=max(known, default=None),
        loss_samples=len(chosen),
        machine=this_machine(0),
    )
    if not latency:
        return cost
    once = time_whole_runs(models, chosen[:1], 1, False)
    both = once[0].median_ms + once[1].median_ms
    rounds = int(min(max(_TIMED_MS / max(both, 1e-3), _ROUNDS[0]), _ROUNDS[1]))
    before, after, _ = time_whole_runs(models, chosen[:1], rounds, False)
    return replace(cost, float_latency=before, quantized_latency=after, rounds=rounds)


def _quantized(first: TimedModel, second: TimedModel) -> set[str]:
    """Return the names of the float nodes that compute on codes in the second model."""
    try:
        match = match_nodes(first.graph, second.graph, second.label)
    except CalibrationError:  # all stays in float
        return set()
    kinds = {str(node.name): operator_of(node) for node in all_nodes(first.graph)}
    found = set(match.quantized)
    for node, name in zip(all_nodes(second.graph), match.names, strict=True):
        # A Conv that took over a normalization makes the tensor of that node.
        if name in match.quantized and kinds.get(str(node.name)) == operator_of(node):
            found.add(str(node.name))
    return found


def model_bytes(path: Path) -> int:
    """Return the size of a model, with the files of its weights, whatever their names."""
    files = {os.path.realpath(file) for file in weight_files(path) if file.is_file()}
    return path.stat().st_size + sum(Path(file).stat().st_size for file in files)


def _operators(
    graph: onnx.GraphProto, quantized: set[str], counts: dict[str, int]
) -> dict[str, OperatorCost]:
    held = _weight_bytes(graph)
    found: dict[str, list[int]] = {}
    for node in all_nodes(graph):
        name = str(node.name)
        size, products = held.get(name, 0), counts.get(name, 0)
        if not size and not products:
            continue
        row = found.setdefault(operator_of(node), [0] * 6)
        is_quantized = int(name in quantized)
        for place, figure in enumerate((1, size, products)):
            row[2 * place] += figure
            row[2 * place + 1] += figure * is_quantized
    ordered = sorted(found.items(), key=lambda item: (-item[1][2], item[0]))
    return {operator: OperatorCost(*row) for operator, row in ordered}


def _weight_bytes(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the bytes of the weights of each node, which count for their first reader."""
    sizes = {
        str(tensor.name): float_bytes(tensor)
        for scope in scopes(graph)
        for tensor in scope.initializer
    }
    fixed = constants_of(graph)
    found: dict[str, int] = {}
    for node in all_nodes(graph):
        operator = operator_of(node)
        if operator == "Constant":
            sizes[node.output[0]] = sum(
                float_bytes(a.t) for a in node.attribute if a.HasField("t")
            )
        elif node.output and node.output[0] in fixed:
            sizes[node.output[0]] = sum(sizes.pop(name, 0) for name in node.input)
        elif operator not in ALIKE:
            read = [node.input[place] for place in weight_positions(node)]
            found[str(node.name)] = sum(sizes.pop(name, 0) for name in read)
    return found
