"""Settings that several parts share, apart so that reading them loads no other module."""

from __future__ import annotations

from typing import Literal

OnNonfinite = Literal["ignore", "raise"]
"""What observing does with NaN and infinities."""

STABLE = 0.1
"""Tensors whose ranges differ by more than a tenth are named. With all samples about half of
the difference remains; a scale that is 5 % too large adds 0.4 dB of rounding noise."""
