"""The measurements of the demo as plain data, for the table, the JSON file and benches."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._io.files import write_text

if TYPE_CHECKING:
    from quantcal.demo.ocr import Accuracy


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """One quantized model and how well it reads.

    Attributes
    ----------
    strategy
        The strategy that chose the ranges of the activations.
    model
        The written model.
    exact, native
        With exact Q/DQ arithmetic, and as this machine's kernels compute it.
    search_seconds, write_seconds
        Times of computing all ranges from the histograms and of writing the model. For
        ``"auto"`` the search includes its own observation and the trials.
    choice
        What ``"auto"`` chose, over what, and which tensors lose most, as pairs of a key
        and a text.
    """

    strategy: str
    model: Path
    exact: Accuracy
    native: Accuracy
    search_seconds: float
    write_seconds: float
    choice: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DemoResult:
    """All measurements of one run of the demo.

    Attributes
    ----------
    output
        The folder that holds the models, the histograms, ``demo.json`` and
        ``lines.png``.
    float32
        The accuracy of the float model.
    strategies
        One result per strategy, in the given order.
    calibration_lines, tensors
        The number of observed lines, and of tensors in each.
    observe_seconds
        Time of the pass over the calibration lines.
    peak_bytes
        The process's peak memory after each stage; empty where it is not known.
    weight_bits
        8, or 7 if nodes whose sums would overflow take 7.
    weight_reason
        The reason.
    seed
        The seed of the lines.
    environment
        Versions and processor.
    """

    output: Path
    float32: Accuracy
    strategies: tuple[StrategyResult, ...]
    calibration_lines: int
    tensors: int
    observe_seconds: float
    peak_bytes: dict[str, int]
    weight_bits: int
    weight_reason: str
    seed: int
    environment: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types; accuracies carry their margins."""
        content = asdict(self) | {"output": str(self.output)}
        content["float32"]["margin"] = self.float32.margin
        for entry, row in zip(content["strategies"], self.strategies, strict=True):
            entry["model"] = row.model.name
            entry["exact"]["margin"] = row.exact.margin
            entry["native"]["margin"] = row.native.margin
        return content

    def save(self, path: Path) -> None:
        """Write :meth:`to_dict` as JSON."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")


def environment() -> dict[str, str]:
    """Return the versions and the processor of the figures."""
    import platform
    from importlib import metadata

    packages = ("quantcal", "onnxruntime", "onnx", "numpy", "pillow")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return {
        "python": platform.python_version(),
        **versions,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor() or platform.processor() or "unknown",
    }


def _processor() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    names = (
        line.partition(":")[2] for line in text.splitlines() if "model name" in line
    )
    return next(names, "").strip() or None
