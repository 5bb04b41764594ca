"""The machine on which times were measured."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from quantcal.onnx._options.cpu import cpu_kind


@dataclass(frozen=True, slots=True)
class Machine:
    """Where times were measured.

    Attributes
    ----------
    cpu
        Its kind, as for the option ``cpu``: ``"vnni"``, ``"no-vnni"``, ``"arm"``, or
        ``"unknown"``.
    name
        The processor's name.
    threads
        The number of threads of a run; 0 stands for onnxruntime's own choice, one for each
        core.
    cores
        The number of processors that the system reports.
    onnxruntime
        The version that ran the models.
    """

    cpu: str
    name: str
    threads: int
    cores: int
    onnxruntime: str


def this_machine(threads: int) -> Machine:
    """Describe this machine."""
    import onnxruntime as ort

    return Machine(
        cpu_kind(), _name(), threads, os.cpu_count() or 0, str(ort.__version__)
    )


def _name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"
