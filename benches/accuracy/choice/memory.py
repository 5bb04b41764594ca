"""Peak memory of a call, as Linux counts resident pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def peak_of(call: Callable[[], object]) -> float | None:
    """Run `call` and return its peak above the start in MiB; None where it is unknown."""
    try:
        _RESET.write_text("5")  # sets the peak to the present size
        before = _read("VmRSS")
    except OSError:
        before = None
    call()
    return None if before is None else max(0.0, _read("VmHWM") - before)


def _read(name: str) -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"{_STATUS} has no {name}")
