"""What a quantization did, for people and for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quantcal._core import CalibrationError
from quantcal._io.files import write_text
from quantcal._notebook import Shown
from quantcal.onnx._choose.choice import Choice
from quantcal.onnx._correct.report import Correction
from quantcal.onnx._write.float_weights import describe_float_weights
from quantcal.stability import Stability
from quantcal.table import CalibrationTable


@dataclass(frozen=True, slots=True)
class ClippedTensor:
    """A tensor and the share of its finite values that its range cuts off (0…1)."""

    name: str
    share: float


@dataclass(frozen=True, slots=True)
class QuantizeResult(Shown):
    """What :func:`quantcal.onnx.quantize` did.

    Attributes
    ----------
    output
        The written model.
    table
        The ranges of all activations, with a report on each. A tensor without a finite value
        is in it too, for :func:`quantcal.onnx.write`: its report has no minimum, and its range
        has no meaning.
    samples
        The number of calibration samples that ran; 0 with histograms made earlier.
    tensors_observed
        The number of tensors that needed a histogram.
    quantized_nodes
        Operator type → number of nodes that compute on quantized data.
    quantize_nodes, dequantize_nodes
        Numbers of QuantizeLinear and DequantizeLinear nodes in the written model.
    left_in_float
        Reason → number of nodes of the chosen operator types left as they were.
    weight_formats
        Format → number of weights stored in it; 7 bits are stored in 8.
    float_weights
        Operator type → bytes of the constants that it reads and the model still stores in
        float, largest first. Nodes that were not chosen count too.
    model_bytes
        Size of the written model, with the weights that lie beside it.
    reduce_range
        Whether the weights take 7 bits instead of 8.
    reduce_range_reason
        Why.
    seconds_observe, seconds_compute, seconds_write
        How long each step took.
    peak_memory
        The largest resident size of this process so far, in bytes; None where unknown.
    widest_clipped
        The tensors that lose the largest share of values, at most five, largest first.
    corrections
        What each correction did that was asked for.
    stability
        How far the ranges of two halves of the samples differ; None when fewer than two
        samples ran.
    choice
        What ``strategy="auto"`` chose, over what and by how much; None with other
        strategies, and with histograms alone.
    config
        The options as TOML, which :func:`quantcal.onnx.read_config` reads from a file;
        None when a strategy is the caller's own object, which no text can hold.
    """

    output: Path
    table: CalibrationTable
    samples: int
    tensors_observed: int
    quantized_nodes: dict[str, int]
    quantize_nodes: int
    dequantize_nodes: int
    left_in_float: dict[str, int]
    weight_formats: dict[str, int]
    float_weights: dict[str, int]
    model_bytes: int
    reduce_range: bool
    reduce_range_reason: str
    seconds_observe: float
    seconds_compute: float
    seconds_write: float
    peak_memory: int | None
    widest_clipped: tuple[ClippedTensor, ...]
    corrections: tuple[Correction, ...]
    stability: Stability | None = field(repr=False)
    choice: Choice | None = field(repr=False)
    config: str | None = field(repr=False)

    @property
    def seconds(self) -> float:
        """The time of all three steps together."""
        return self.seconds_observe + self.seconds_compute + self.seconds_write

    @property
    def weights(self) -> str:
        """How the weights are stored, and why."""
        return weights_text(self.weight_formats, self.reduce_range_reason)

    def summary(self) -> str:
        """Return a few lines of plain text."""
        rows = [
            ("written", str(self.output)),
            ("samples", str(self.samples)),
            ("tensors observed", str(self.tensors_observed)),
            *(self.choice.rows() if self.choice else ()),
            ("quantized", _counts(self.quantized_nodes)),
            *left_rows(self.left_in_float, self.float_weights, self.model_bytes),
            ("Q / DQ nodes", f"{self.quantize_nodes} / {self.dequantize_nodes}"),
            ("weights", self.weights),
            *(("corrected", each.summary()) for each in self.corrections),
            (
                "seconds",
                f"{self.seconds:.1f} (observe {self.seconds_observe:.1f}, compute "
                f"{self.seconds_compute:.1f}, write {self.seconds_write:.1f})",
            ),
        ]
        if self.peak_memory is not None:
            rows.append(("peak memory", f"{self.peak_memory / 1e6:.0f} MB"))
        clipped = [f"{c.name} {c.share:.3%}" for c in self.widest_clipped]
        rows.append(("most clipped", ", ".join(clipped) or "none"))
        if self.stability is not None:
            rows.append(("two halves", self.stability.summary()))
        return "\n".join(f"{key:<17} {value}" for key, value in rows)

    def save_config(self, path: str | os.PathLike[str]) -> None:
        """Write ``config`` to a file, atomically.

        Raises
        ------
        CalibrationError
            When there is none, or the file cannot be written.
        """
        if self.config is None:
            raise CalibrationError(
                "The options have no text form: a strategy is an object of the caller. "
                "Save the ranges with table.save."
            )
        write_text(Path(path), self.config)


def left_rows(
    left: Mapping[str, int], floats: Mapping[str, int], size: int
) -> list[tuple[str, str]]:
    """Return what stays in float: nodes of the chosen types, and weights of any node."""
    shares = describe_float_weights(floats, size)
    none = "none of the chosen types" if shares else "none"
    rows = [("left in float", _counts(left) or none)]
    return [*rows, ("float weights", f"{shares} of the file")] if shares else rows


def weights_text(formats: Mapping[str, int], reason: str) -> str:
    """Return how weights are stored, and why."""
    names = ", ".join(formats)
    if names in ("int8", "uint8", "int7", "uint7"):
        names = f"{7 if '7' in names else 8} bits"
    return f"{names or 'none'}: {reason}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def widest_clipped(table: CalibrationTable, most: int = 5) -> tuple[ClippedTensor, ...]:
    """Return the tensors that lose the largest share of their values."""
    shares = [
        ClippedTensor(name, report.clipped) for name, report in table.report.items()
    ]
    shares.sort(key=lambda clipped: (-clipped.share, clipped.name))
    return tuple(clipped for clipped in shares[:most] if clipped.share > 0)


def peak_memory() -> int | None:
    """Return the largest resident size of this process in bytes; None where unknown.

    Linux keeps it by program. There `getrusage` includes the process that started this
    one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
