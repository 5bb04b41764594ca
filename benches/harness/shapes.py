"""Seeded test data with the distributions of activations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def gauss(n: int) -> Floats:
    """Return N(0, 1), float32."""
    return np.random.default_rng(0).standard_normal(n, dtype=np.float32)


def shapes(n: int) -> dict[str, Floats]:
    """Return float32 arrays of `n` values by the name of their distribution."""
    x = gauss(n)
    generator = np.random.default_rng(1)
    return {
        "N(0, 1)": x,
        "ReLU, half zeros": np.maximum(x, 0),
        "constant": np.full(n, 0.37, dtype=np.float32),
        "sorted": np.sort(x),
        "Laplace": generator.laplace(size=n).astype(np.float32),
        "16 octaves wide": (
            np.exp2(generator.uniform(-8, 8, size=n)) * np.sign(x)
        ).astype(np.float32),
    }


def sixteen_bits(x: Floats) -> dict[str, NDArray[np.generic]]:
    """Return the values as bfloat16 and float16."""
    import ml_dtypes

    return {
        "bfloat16": x.astype(ml_dtypes.bfloat16),
        "float16": x.astype(np.float16),
    }


def code_counts(x: NDArray[np.generic], mantissa_bits: int) -> NDArray[np.int64]:
    """Return the number of values in each occupied bin, by rising value.

    The reference that counts are checked against before they are timed. A bin is the sign,
    the exponent and the first mantissa bits of a float32; both zeros are one bin.
    """
    counts = np.zeros(1 << (9 + mantissa_bits), dtype=np.int64)
    for start in range(0, x.size, 1 << 20):
        bits = x[start : start + (1 << 20)].astype(np.float32).view(np.uint32)
        codes = bits >> np.uint32(23 - mantissa_bits)
        counts += np.bincount(codes, minlength=counts.size)
    positive, negative = counts[: counts.size // 2], counts[counts.size // 2 :]
    positive[0] += negative[0]
    rising = np.concatenate([negative[:0:-1], positive])
    return rising[rising > 0]
