"""The arrays that the tests of the engine share: shapes of real activations, and odd ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import quantcal as qc

Array = NDArray[Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
"""All element types that can be observed."""

EXACT_BITS = {"float16": 10, "bfloat16": 7}
"""Mantissa bits at which every value of a 16-bit type has its own bin."""

INT8, UINT8 = qc.QuantFormat("int8"), qc.QuantFormat("uint8")
"""Symmetric and affine, as they are by default."""

TARGETS = [("int8", True), ("int8", False), ("uint8", True), ("uint8", False)]
"""All (format, symmetric)."""

STRATEGIES = ["minmax", "percentile_99.9", "percentile_99.99", "kl", "mse"]

KINDS = [
    qc.QuantFormat(name)
    for name in ["int8", "uint8", "int4", "uint4", "float8_e4m3fn", "float4_e2m1fn"]
]
"""Formats of every sort: both signs, both scalings, many and few levels, even and not."""

METHODS: dict[str, qc.Strategy] = {
    str(strategy): strategy
    for strategy in (
        qc.MinMax(),
        qc.MinMax("mean"),
        qc.MinMax("median"),
        qc.Percentile(99.9),
        qc.Percentile(99, "each"),
        qc.Percentile(adaptive=True),
        qc.KL(),
        qc.KL(512, num_levels=64, two_sided=True),
        qc.KL(two_sided=False),
        qc.MSE(),
        qc.MSE(1),
        qc.MSE(2.4),
        qc.MSE(4),
        qc.MSE(newton=True),
        qc.MaxEntropy(),
        qc.ACIQ(),
        qc.ACIQ("gauss"),
        qc.ACIQ("laplace"),
        qc.ACIQ(approximation="closed_form"),
        qc.Hybrid(),
        qc.Hybrid(qc.MinMax("mean"), "mse"),
    )
}
"""Every strategy that looks at the data, with every option, by the name that it goes by."""


def gaussian(rng: np.random.Generator, size: int) -> Array:
    return rng.normal(size=size)


def laplace(rng: np.random.Generator, size: int) -> Array:
    return rng.laplace(size=size)


def student_t3(rng: np.random.Generator, size: int) -> Array:
    return rng.standard_t(3, size=size)


def relu(rng: np.random.Generator, size: int) -> Array:
    return np.maximum(rng.normal(size=size), 0.0)


def outliers(rng: np.random.Generator, size: int) -> Array:
    """Return N(0, 1) with one value in a thousand forty times as wide."""
    return rng.normal(size=size) * np.where(rng.random(size) < 1e-3, 40.0, 1.0)


def skewed(rng: np.random.Generator, size: int) -> Array:
    """Return a short negative side and a long positive one, as after a GELU or SiLU."""
    x = rng.normal(0.3, 1.0, size=size)
    return np.where(x < 0, 0.15 * x, rng.gamma(1.5, 1.2, size=size))


SHAPES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "gaussian": gaussian,
    "laplace": laplace,
    "student_t3": student_t3,
    "relu": relu,
    "outliers": outliers,
    "skewed": skewed,
}
"""Distributions that activations have."""


def f32(values: Sequence[float]) -> Array:
    """Return a list of numbers as float32."""
    return np.array(values, dtype=np.float32)


def shape(name: str, size: int, seed: int = 0) -> Array:
    """Return a seeded float32 sample of one of the SHAPES."""
    return SHAPES[name](np.random.default_rng(seed), size).astype(np.float32)


def any_bits(size: int, seed: int = 0) -> Array:
    """Return float32 of random bits: all exponents, subnormals, NaN payloads, infinities."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 32, size=size, dtype=np.uint32)
    special = np.array(
        [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00001], dtype=np.uint32
    )
    where = rng.random(size) < 0.1
    return np.where(where, rng.choice(special, size=size), bits).view(np.float32)


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Convert without the warning that values overflow: they become infinite."""
    with np.errstate(all="ignore"):
        return values.astype(dtype)


def widened(values: Array) -> Array:
    """Return the finite values as the engine reads them: rounded to float32."""
    x = cast(values, np.dtype(np.float32)).ravel()
    return x[np.isfinite(x)]


MAX = np.finfo(np.float32).max
TINY = np.finfo(np.float32).smallest_subnormal

ODD: dict[str, Array] = {
    "empty": np.array([], dtype=np.float32),
    "zero": np.zeros(7, dtype=np.float32),
    "negative zero": np.array([-0.0], dtype=np.float32),
    "constant": np.full(1000, 3.3, dtype=np.float32),
    "negative constant": np.full(1000, -0.07, dtype=np.float32),
    "single element": np.array([-1.7], dtype=np.float32),
    "two values": np.array([-2.5, 7.0], dtype=np.float32),
    "denormal only": np.array([TINY, 3 * TINY, -TINY], dtype=np.float32),
    "smallest denormal": np.array([TINY], dtype=np.float32),
    "largest float": np.array([MAX, 1.0], dtype=np.float32),
    "both largest floats": np.array([MAX, -MAX], dtype=np.float32),
    "NaN only": np.array([np.nan] * 3, dtype=np.float32),
    "infinities only": np.array([np.inf, -np.inf], dtype=np.float32),
    "NaN among values": np.array([np.nan, 1.5, -2.5, np.inf], dtype=np.float32),
    "one outlier": np.append(np.full(9999, 0.01), 1e30).astype(np.float32),
    "one negative outlier": np.append(np.full(9999, 0.01), -1e30).astype(np.float32),
    "all bits": any_bits(5000, seed=1),
}
"""Arrays that must neither crash nor poison anything."""
