"""Whether this machine's 8-bit kernels need 7-bit weights, and why.

x86 processors without VNNI multiply u8 by s8 and add *pairs* of products in saturating
16-bit integers. 2 · 255 · 127 is twice the limit, so pairs of large products are silently
clipped. With 7-bit weights (−64…64) the sum fits, and the result is exact. VNNI and Arm
instructions add in 32 bits and need no 7-bit weights.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from quantcal._core import CalibrationError
from quantcal._text import shown

_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx512vnni", "avxvnni"})
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
_ARM = frozenset({"aarch64", "arm64"})

CPUS = ("auto", "vnni", "no-vnni", "arm")
"""The processor that will run a model: this one, x86 with or without VNNI, or Arm."""


@dataclass(frozen=True, slots=True)
class WeightBits:
    """The number of bits of weights, and the reason.

    Attributes
    ----------
    reduce : bool
        True for 7 bits in all nodes, False for 8.
    reason : str
        One sentence for the summary.
    nodes : frozenset of str
        The only nodes that take 7 bits, when ``reduce`` is False.
    undecided : bool
        True when the nodes are still to be found from the data.
    """

    reduce: bool
    reason: str
    nodes: frozenset[str] = frozenset()
    undecided: bool = False

    @property
    def bits(self) -> int:
        """7 or 8; 8 when only some nodes take 7."""
        return 7 if self.reduce else 8


def cpu_flags() -> frozenset[str] | None:
    """Return this CPU's instruction-set flags in lower case; None where unknown."""
    system = platform.system()
    if system == "Linux":
        return _linux_flags(Path("/proc/cpuinfo"))
    if system == "Darwin":
        return _macos_flags()
    return None


def _linux_flags(path: Path) -> frozenset[str] | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.lower().split())
    return None


def _macos_flags() -> frozenset[str] | None:
    names = ["machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", *names],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return frozenset(done.stdout.lower().split()) or None


def cpu_kind(cpu: str = "auto") -> str:
    """Return the kind of a processor: "vnni", "no-vnni", "arm", or "unknown".

    Parameters
    ----------
    cpu : str
        One of :data:`CPUS`; ``"auto"`` is this one.

    Raises
    ------
    CalibrationError
        When ``cpu`` has another value.
    """
    _check_cpu(cpu)
    machine, flags = _machine_of(cpu)
    if machine in _ARM:
        return "arm"
    if machine not in _X86 or flags is None:
        return "unknown"
    return "vnni" if _VNNI & flags else "no-vnni"


def _check_cpu(cpu: str) -> None:
    if cpu not in CPUS:
        raise CalibrationError(
            f"cpu={shown(cpu)} is not known. Known: {', '.join(CPUS)}."
        )


def weight_bits(
    reduce_range: bool | str | Collection[str] = "auto",
    weight: str = "int8",
    cpu: str = "auto",
) -> WeightBits:
    """Choose between 7 and 8 bits for the weights.

    Parameters
    ----------
    reduce_range : bool, "auto", "nodes", or collection of str
        True takes 7 bits in all nodes, False 8. ``"auto"`` (default) takes 7 bits in all
        nodes when the kernels of ``cpu`` add in 16 bits. ``"nodes"`` then takes them only
        in nodes that need it (:mod:`quantcal.onnx._write.saturation`). A collection names
        the nodes with 7 bits.
    weight : str
        ``"int8"`` or ``"uint8"``; kernels for uint8 weights never add in 16 bits.
    cpu : str
        The processor that will run the model: one of :data:`CPUS`.

    Returns
    -------
    WeightBits

    Raises
    ------
    CalibrationError
        When ``reduce_range`` or ``cpu`` has another value.
    """
    _check_cpu(cpu)
    if isinstance(reduce_range, bool):
        return WeightBits(reduce_range, "as asked for with reduce_range")
    if not isinstance(reduce_range, str):
        nodes = frozenset(reduce_range)
        return WeightBits(False, _some(len(nodes), "named in reduce_range"), nodes)
    if reduce_range not in ("auto", "nodes"):
        raise CalibrationError(
            f"reduce_range is {reduce_range!r}. "
            'Give True, False or "auto"; or "nodes", or names of nodes.'
        )
    if weight == "uint8":
        return WeightBits(False, "uint8 weights take kernels that add in 32 bits")
    machine, flags = _machine_of(cpu)
    bits = _bits_for(machine, flags, "this" if cpu == "auto" else "the target")
    if bits.reduce and reduce_range == "nodes":
        return WeightBits(False, bits.reason, undecided=True)
    return bits


def with_reduced_nodes(bits: WeightBits, nodes: Collection[str]) -> WeightBits:
    """Return the bits for a model in which these nodes take 7 bits."""
    reason = "no node benefits from 7-bit weights"
    if nodes:
        reason = _some(len(nodes), "whose sums would overflow 16 bits")
    return WeightBits(False, f"{reason}; {bits.reason}", frozenset(nodes))


def _some(count: int, which: str) -> str:
    return f"7 in the {count} node{'' if count == 1 else 's'} {which}"


def _machine_of(cpu: str) -> tuple[str, frozenset[str] | None]:
    """Return the machine and the flags of a CPU."""
    if cpu == "auto":
        return platform.machine().lower(), cpu_flags()
    if cpu == "arm":
        return "arm64", None
    return "x86_64", frozenset({"avx_vnni"} if cpu == "vnni" else ())


def _bits_for(machine: str, flags: frozenset[str] | None, whose: str) -> WeightBits:
    if machine in _ARM:
        return WeightBits(False, f"{machine} kernels add products in 32 bits")
    if machine in _X86 and flags is not None:
        found = sorted(_VNNI & flags)
        if found:
            return WeightBits(False, f"{whose} CPU has VNNI ({', '.join(found)})")
        return WeightBits(
            True,
            f"{whose} CPU has no VNNI: its 8-bit kernels add pairs of products in "
            "saturating 16-bit integers, which 7-bit weights cannot overflow",
        )
    return WeightBits(
        True,
        f"whether {whose} CPU ({machine or 'unknown'}) has VNNI is not known; "
        "7-bit weights are safe on every CPU",
    )
