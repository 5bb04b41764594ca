"""Times of nodes in float and as integers, and what follows from them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from quantcal._core import CalibrationError
from quantcal._io.files import read_bytes, write_text
from quantcal._notebook import Shown
from quantcal.onnx._options.cpu import cpu_kind
from quantcal.onnx._timing.machine import Machine
from quantcal.onnx._timing.times_file import LARGEST, build, content_of, text_of

_MOST = 0.75  # the share of rounds that the faster one wins
_DISTURBED = 1.5  # whole runs, as a multiple of the sum of their kernels
_OVERHEAD_MS = 1.0  # what runs of small models take beside their kernels


@dataclass(frozen=True, slots=True)
class NodeTime:
    """What a node of the float model takes in both models, in milliseconds of one sample.

    Attributes
    ----------
    op_type
        Its operator.
    float_ms
        The median of its time in the float model, with the conversions of layout beside it.
    integer_ms
        The same for the quantized model, with the QuantizeLinear, DequantizeLinear and
        Transpose nodes beside it that it needs.
    conversion_ms
        The part of ``integer_ms`` that such nodes take.
    spread_ms
        Half of the interquartile range of float minus integer time, over all rounds.
    rounds_won
        The share of rounds in which the integers were faster, 0 to 1.
    multiply_adds
        Products that the node adds up for one sample, the mean over the samples; 0 where it
        multiplies no matrices or filters, or shapes are unknown.
    float_kernel, kernel
        The operators that onnxruntime runs for it in the float model and in the quantized
        one; empty when onnxruntime removed it.
    quantized
        Whether it reads codes in the quantized model, and computes. A Transpose of codes
        is not counted, because its codes serve other nodes.
    reason
        Why it has no integer kernel; empty when it has one.
    fused
        Other nodes whose time is in this one's, because one kernel computes them together
        with it in one of the models.
    """

    op_type: str
    float_ms: float
    integer_ms: float
    conversion_ms: float
    spread_ms: float
    rounds_won: float
    multiply_adds: int
    float_kernel: str
    kernel: str
    quantized: bool
    reason: str
    fused: tuple[str, ...] = ()

    @property
    def gain_ms(self) -> float:
        """What integers save, in milliseconds of one sample; negative when float is faster."""
        return self.float_ms - self.integer_ms

    @property
    def is_faster(self) -> bool:
        """Whether the median and at least three of four rounds show that integers save time."""
        return _is_faster(self.gain_ms, self.rounds_won)


@dataclass(frozen=True, slots=True)
class Latency:
    """The time of a whole run without a profiler.

    Attributes
    ----------
    median_ms
        Over all rounds, in milliseconds of one sample.
    spread_ms
        Half of the interquartile range.
    """

    median_ms: float
    spread_ms: float


@dataclass(frozen=True, slots=True)
class NodeTimes(Shown):
    """What :func:`measure_times` found.

    Attributes
    ----------
    nodes
        Name → times, in the order of the float model. A node without its own kernel is in
        the ``fused`` of another one, or missing if onnxruntime removed it.
    float_latency, integer_latency
        Whole runs of both models, without the profiler.
    rounds_won
        The share of rounds in which the quantized model was faster as a whole.
    other_float_ms, other_integer_ms
        The time of kernels that belong to no node, by the profiler.
    samples, rounds
        The numbers of different samples and of rounds over all of them.
    machine
        Where it was measured.
    """

    nodes: dict[str, NodeTime] = field(repr=False)
    float_latency: Latency
    integer_latency: Latency
    rounds_won: float
    other_float_ms: float
    other_integer_ms: float
    samples: int
    rounds: int
    machine: Machine

    @property
    def float_ms(self) -> float:
        """The sum over all kernels of the float model, by the profiler."""
        return sum(n.float_ms for n in self.nodes.values()) + self.other_float_ms

    @property
    def integer_ms(self) -> float:
        """The sum over all kernels of the quantized model, by the profiler."""
        return sum(n.integer_ms for n in self.nodes.values()) + self.other_integer_ms

    @property
    def conversion_ms(self) -> float:
        """The part of ``integer_ms`` that only converts between floats, codes and layouts."""
        return sum(n.conversion_ms for n in self.nodes.values())

    @property
    def gain_ms(self) -> float:
        """What the whole quantized model saves for each sample, without the profiler."""
        return self.float_latency.median_ms - self.integer_latency.median_ms

    @property
    def is_faster(self) -> bool:
        """Whether the median and three of four rounds show that the whole model saves time."""
        return _is_faster(self.gain_ms, self.rounds_won)

    def not_faster(self) -> tuple[str, ...]:
        """Return the quantized nodes that integers do not make faster, the slowest first.

        In float they would be more accurate and as fast. A node counts as faster if, with its
        conversions, its integers have the lower median and win at least three of four rounds.
        Of 20 rounds without a difference, noise wins so many in 2 of 100 cases.

        A node whose weights alone have codes may be among them. It still saves memory.

        Beside a node in float, its neighbors may need conversions that they share with it
        now. So leave out a few, and measure again.
        """
        names = [n for n, t in self.nodes.items() if t.quantized and not t.is_faster]
        return tuple(sorted(names, key=lambda name: self.nodes[name].gain_ms))

    def benefits(self, cpu: str | None = None) -> dict[str, float]:
        """Return what integers are worth at each node, to weigh against its damage.

        Parameters
        ----------
        cpu
            The processor that will run the model, as for :func:`quantcal.onnx.quantize`;
            ``"auto"`` is this machine. By default it is the measured one.

        Returns
        -------
        dict of str to float
            Quantized node → milliseconds saved, if ``cpu`` is of the measured kind.
            Otherwise its multiply-adds if it has an integer kernel, else 0. They compare
            nodes of one model only.

        Raises
        ------
        CalibrationError
            If ``cpu`` is not known.
        """
        nodes = {name: n for name, n in self.nodes.items() if n.quantized}
        if cpu is None or cpu_kind(cpu) == self.machine.cpu:
            return {name: node.gain_ms for name, node in nodes.items()}
        return {
            name: 0.0 if node.reason else float(node.multiply_adds)
            for name, node in nodes.items()
        }

    def warnings(self) -> tuple[str, ...]:
        """Say what speaks against the quantized model, and against the measurement."""
        first, second = self.float_latency, self.integer_latency
        found = []
        if not self.is_faster:
            found.append(
                f"integers gain nothing on this machine ({self.machine.name}, "
                f"{self.machine.cpu}): a sample takes {first.median_ms:.3g} ± "
                f"{first.spread_ms:.2g} ms in float, {second.median_ms:.3g} ± "
                f"{second.spread_ms:.2g} ms quantized"
            )
        wholes = (first.median_ms, self.float_ms), (second.median_ms, self.integer_ms)
        if any(whole > _DISTURBED * parts + _OVERHEAD_MS for whole, parts in wholes):
            found.append(
                f"whole runs take {first.median_ms:.3g} and {second.median_ms:.3g} ms, but "
                f"the medians of their kernels are {self.float_ms:.3g} and "
                f"{self.integer_ms:.3g} ms in sum. Other processes seem to interrupt the "
                "runs. Measure on an idle machine"
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures for JSON."""
        return asdict(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file, atomically.

        Raises
        ------
        CalibrationError
            If it cannot be written.
        """
        write_text(os.fspath(path), text_of(self.to_dict()))

    @classmethod
    def of(cls, times: NodeTimes | str | os.PathLike[str]) -> NodeTimes:
        """Return times as they are, or those of a file."""
        return times if isinstance(times, NodeTimes) else cls.load(times)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NodeTimes:
        """Read a file that `save` wrote, on this machine or another.

        Raises
        ------
        CalibrationError
            If it cannot be read, is something else, or is from a newer version; the
            message names the file and the node.
        """
        data = read_bytes(os.fspath(path), LARGEST)
        try:
            return _parse(cls, content_of(data))
        except CalibrationError as error:
            raise CalibrationError(f"{os.fspath(path)}: {error}") from error


def _is_faster(gain: float, won: float) -> bool:
    # A difference of medians alone is half of the time noise, a sign test is not.
    return gain > 0 and won >= _MOST


_PARTS: dict[str, type] = {
    "machine": Machine,
    "float_latency": Latency,
    "integer_latency": Latency,
}


def _parse(kind: type[NodeTimes], content: dict[str, Any]) -> NodeTimes:
    known: dict[str, Any] = {}
    for name, part in _PARTS.items():
        if name not in content:
            raise CalibrationError(f"{name} is missing")
        known[name] = _built(part, content.pop(name), name)
    nodes = content.pop("nodes", None)
    if not isinstance(nodes, dict):
        raise CalibrationError(
            f"nodes is {nodes!r:.40}, but it must hold times by name"
        )
    known["nodes"] = {
        name: _built(NodeTime, values, f'node "{name}"')
        for name, values in nodes.items()
    }
    return build(kind, content, known)


def _built(kind: type, values: Any, where: str) -> Any:
    try:
        return build(kind, values)
    except CalibrationError as error:
        raise CalibrationError(f"{where}: {error}") from error
