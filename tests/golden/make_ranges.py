"""Writes ranges.json: the bits of every strategy's range on values from whole numbers alone.

`python tests/golden/make_ranges.py`, when a strategy is changed on purpose. Any machine must find
the same, so Rust and Python read the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import quantcal as qc
from quantcal.comparison.api import STRATEGIES

FORMATS = ("int8", "uint8", "int4", "float8_e4m3fn")
SIZE = 30_000


def values(name: str) -> np.ndarray:
    """Return values whose arithmetic is exact: sums of 16-bit numbers, over a power of two."""
    state, drawn = 1, []
    for _ in range(SIZE):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        words = [(state >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]
        drawn.append(sum(words) - 2 * 0xFFFF)
    bell = np.array(drawn, dtype=np.float32) / np.float32(2**15)
    if name == "one-sided":
        return np.maximum(bell, np.float32(0))
    if name == "outliers":
        bell[::1000] *= np.float32(64)
    return bell


NAMES = ("bell", "one-sided", "outliers")


def found(name: str) -> dict[str, list[str]]:
    """Return the ends of each strategy's range as hexadecimal floats."""
    histogram = qc.Histogram().observe(values(name))
    return {
        f"{name} | {format} | {strategy}": [
            float(end).hex()
            for end in strategy.range(histogram, qc.QuantFormat(format))
        ]
        for format in FORMATS
        for strategy in STRATEGIES
    }


if __name__ == "__main__":
    ranges = {key: ends for name in NAMES for key, ends in found(name).items()}
    path = Path(__file__).with_name("ranges.json")
    path.write_text(json.dumps(ranges, indent=1) + "\n", "utf-8")
    print(f"written: {path}")
