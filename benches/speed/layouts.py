"""Counting other distributions, element types and strided arrays, compared with N(0, 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.shapes import code_counts, shapes, sixteen_bits
from benches.harness.timing import interleave
from benches.harness.yardsticks import READING, add_speedup_limit, two_threads


def main(*, smoke: bool) -> Sheet:
    """Time every distribution and type on one core, and types and layouts on two as well."""
    n = 1 << (18 if smoke else 24)
    rounds = 2 if smoke else 9
    sheet = Sheet("layouts")
    values = shapes(n)
    gauss = values["N(0, 1)"]
    _shapes(sheet, values, rounds)
    wide = np.random.default_rng(2).standard_normal((n // 4096, 8192), dtype=np.float32)
    arrays: dict[str, Any] = {
        **sixteen_bits(gauss),
        "float64": gauss.astype(np.float64),
        "float32, a transposed matrix": gauss.reshape(-1, 4096).T,
        "float32, every second column": wide[:, ::2],
    }
    bits = {"float16": 10, "bfloat16": 7}
    for name, array in arrays.items():
        _check(array, bits.get(name, 8))
    twice = {f"{name}, 2 threads": array for name, array in arrays.items()}
    work = {
        READING: gauss.max,
        **{
            name: lambda a=array: qc.Histogram().observe(a)
            for name, array in (arrays | twice).items()
        },
        **two_threads(),
    }
    seconds = interleave(work, rounds=rounds, threads=dict.fromkeys(twice, 2))
    per = n * 1e-9
    sheet.add(READING, "1 core", seconds[READING], unit="ns/element", per=per)
    for name in arrays:
        short = name in bits
        sheet.add(
            name,
            "1 core",
            seconds[name],
            unit="ns/element",
            per=per,
            at_most=0.45 if short else 1.2,
            yardstick=(READING, seconds[READING]),
        )
        sheet.ratio(
            name,
            "2 cores, speed-up",
            seconds[name],
            seconds[f"{name}, 2 threads"],
            at_least=1.8 if short else None,
        )
    add_speedup_limit(sheet, seconds)
    return sheet


def _check(array: Any, mantissa_bits: int) -> None:
    histogram = qc.Histogram().observe(array)
    expected = code_counts(np.ravel(array), mantissa_bits)
    assert np.array_equal(histogram.bins()[2], expected)


def _shapes(sheet: Sheet, values: dict[str, Any], rounds: int) -> None:
    for array in values.values():
        _check(array, 8)
    first, gauss = next(iter(values.items()))
    work = {
        READING: gauss.max,
        **{
            name: lambda a=array: qc.Histogram().observe(a)
            for name, array in values.items()
        },
    }
    seconds = interleave(work, rounds=rounds)
    for name in values:
        sheet.add(
            f"float32, {name}",
            "1 core",
            seconds[name],
            unit="ns/element",
            per=gauss.size * 1e-9,
            yardstick=(READING, seconds[READING]),
        )
        if name != first:
            sheet.ratio(
                f"float32, {name}",
                f"of {first}",
                seconds[name],
                seconds[first],
                at_most=1.3,
            )
