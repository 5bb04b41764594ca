"""What a figure depends on besides the code: the machine, versions, the date, other load."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from benches.harness.process import ROOT

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

PACKAGES = (
    "numpy",
    "onnxruntime",
    "torch",
    "fast-histogram",
    "boost-histogram",
)
"""The packages that quantcal is compared with."""


def processor() -> str:
    """Return the processor's name with its family and model, as Linux reports them."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or "unknown processor"
    facts: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts.get('cpu family')}, model {facts.get('model')})"


def versions() -> dict[str, str]:
    """Return the versions of all that is measured, without packages that are missing."""
    import quantcal as qc

    found = {"quantcal": qc.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    rustc = subprocess.run(
        ["rustc", "--version"], capture_output=True, text=True, check=False
    )
    if rustc.returncode == 0:
        found["rustc"] = rustc.stdout.split()[1]
    return found


def commit() -> str | None:
    """Return the measured commit, with a plus sign if files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return found.stdout.strip() or None


def describe() -> dict[str, Any]:
    """Return the facts that head a run."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": commit(),
        "date": date.today().isoformat(),
    }


def show(machine: dict[str, Any]) -> None:
    """Print the facts that head a run."""
    print(
        f"{machine['date']}  {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}"
    )
    print(", ".join(f"{name} {text}" for name, text in machine["versions"].items()))
    print(f"commit {machine['commit']}; {Path(sys.executable).name}", flush=True)


class OtherLoad:
    """The share of the processors that other programs use from now on (Linux)."""

    def __init__(self) -> None:
        self._start = self._read()

    def share(self) -> float | None:
        """Return their share of all processor time, 0 to 1; None where it is unknown."""
        if self._start is None:
            return None
        busy, everything, own = (
            now - then
            for now, then in zip(self._read() or (), self._start, strict=True)
        )
        return max(0.0, busy - own) / everything if everything > 0 else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        """Return seconds: busy (with those a hypervisor stole), all, and this process's."""
        stat = Path("/proc/stat")
        if resource is None or not stat.exists():
            return None
        ticks = [int(text) for text in stat.read_text().split("\n", 1)[0].split()[1:9]]
        idle = ticks[3] + ticks[4]
        hertz = os.sysconf("SC_CLK_TCK")
        own = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(who)
            own += usage.ru_utime + usage.ru_stime
        return (sum(ticks) - idle) / hertz, sum(ticks) / hertz, own
