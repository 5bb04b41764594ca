"""Whether this machine's 8-bit kernels need 7-bit weights, and why.

x86 processors without VNNI multiply u8 by s8 and add *pairs* of products in saturating
16-bit integers: 2 · 255 · 127 is twice what fits, so a pair of large products is
silently clipped. With 7-bit weights (−64…64) the sum fits, and the result is exact.
VNNI and Arm instructions add in 32 bits and need no such care.
"""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from quantcal import CalibrationError

_VNNI = frozenset({"avx512_vnni", "avx_vnni", "avx512vnni", "avxvnni"})
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
_ARM = frozenset({"aarch64", "arm64"})


@dataclass(frozen=True, slots=True)
class WeightBits:
    """How many bits the weights take, and the sentence that says why.

    Attributes
    ----------
    reduce : bool
        True for 7 bits, False for 8.
    reason : str
        One sentence for the summary.
    """

    reduce: bool
    reason: str

    @property
    def bits(self) -> int:
        """7 or 8."""
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


def weight_bits(reduce_range: bool | str = "auto", weight: str = "int8") -> WeightBits:
    """Choose between 7 and 8 bits for the weights.

    Parameters
    ----------
    reduce_range : bool or "auto"
        True and False are taken as they are; ``"auto"`` (default) asks the CPU that
        this runs on, so give the answer yourself when the model will run elsewhere.
    weight : str
        ``"int8"`` or ``"uint8"``; kernels for uint8 weights never add in 16 bits.

    Returns
    -------
    WeightBits

    Raises
    ------
    CalibrationError
        When ``reduce_range`` is something else.
    """
    if isinstance(reduce_range, bool):
        return WeightBits(reduce_range, "as asked for with reduce_range")
    if reduce_range != "auto":
        raise CalibrationError(
            f'reduce_range is {reduce_range!r}. Give True, False or "auto".'
        )
    if weight == "uint8":
        return WeightBits(False, "uint8 weights take kernels that add in 32 bits")
    return _judge(platform.machine().lower(), cpu_flags())


def _judge(machine: str, flags: frozenset[str] | None) -> WeightBits:
    if machine in _ARM:
        return WeightBits(False, f"{machine} kernels add products in 32 bits")
    if machine in _X86 and flags is not None:
        found = sorted(_VNNI & flags)
        if found:
            return WeightBits(False, f"this CPU has VNNI ({', '.join(found)})")
        return WeightBits(
            True,
            "this CPU has no VNNI: its 8-bit kernels add pairs of products in "
            "saturating 16-bit integers, which 7-bit weights cannot overflow",
        )
    return WeightBits(
        True,
        f"whether this CPU ({machine or 'unknown'}) has VNNI is not known; "
        "7-bit weights are safe on every CPU",
    )
