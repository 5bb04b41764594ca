"""Quantizing and dequantizing an array, compared with a copy."""

from __future__ import annotations

import numpy as np

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.shapes import gauss
from benches.harness.timing import interleave

FLOOR = "numpy.copy"
REUSED = "numpy.copyto"
INTO = "quantize + dequantize, out="


def main(*, smoke: bool) -> Sheet:
    """Time int8 on float32 N(0, 1)."""
    n = 1 << (18 if smoke else 24)
    x = gauss(n)
    params = qc.calibrate(x, "minmax", format="int8")
    codes = params.quantize(x)
    scale = np.float32(params.scale)
    expected = np.clip(np.rint(x / scale), -128, 127).astype(np.int8)
    assert np.array_equal(codes, expected)
    assert np.array_equal(params.dequantize(codes), expected.astype(np.float32) * scale)

    def both() -> None:
        params.dequantize(params.quantize(x))

    kept = np.zeros_like(codes), np.zeros_like(x)

    def into() -> None:
        params.dequantize(params.quantize(x, out=kept[0]), out=kept[1])

    work = {
        FLOOR: lambda: np.copy(x),
        "quantize": lambda: params.quantize(x),
        "dequantize": lambda: params.dequantize(codes),
        "quantize + dequantize": both,
        "two": both,
        REUSED: lambda: np.copyto(kept[1], x),
        INTO: into,
    }
    seconds = interleave(work, rounds=2 if smoke else 11, threads={"two": 2})
    name = f"int8, float32, {n:,} elements"
    sheet = Sheet("quantize")
    floor = (FLOOR, seconds[FLOOR])
    for how in (FLOOR, "quantize", "dequantize", "quantize + dequantize"):
        sheet.add(
            f"{how}, {name}",
            "1 core",
            seconds[how],
            unit="ns/element",
            per=n * 1e-9,
            yardstick=floor,
        )
    again = (REUSED, seconds[REUSED])
    for how in (REUSED, INTO):
        sheet.add(
            f"{how}, {name}",
            "1 core",
            seconds[how],
            unit="ns/element",
            per=n * 1e-9,
            yardstick=again,
        )
    sheet.ratio(
        f"{INTO}, {name}",
        "1 core, of a copy",
        seconds[INTO],
        seconds[REUSED],
        at_most=2,
    )
    how = f"quantize + dequantize, {name}"
    once = seconds["quantize + dequantize"]
    sheet.ratio(how, "1 core, of a copy", once, seconds[FLOOR], at_most=2)
    sheet.ratio(how, "2 cores, speed-up", once, seconds["two"])
    return sheet
