"""The regret of the MSE search: its error above the best of a scan of the raw values.

    python -m benches.accuracy.regret

Only one end is searched: symmetric formats, and uint8 of nonnegative values. The scan quantizes
the raw values with 1000 scales, and both errors are of the raw values. It takes two minutes;
the figures do not depend on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import quantcal as qc

Floats = NDArray[np.float32]

SIZES = (1500, 6000, 20_000)
SHAPES = ("Gaussian", "Laplace", "ReLU of Gaussian")
NORMS = (2.0, 2.4)
LIMIT = 0.2  # percent, the target
CODES = {"int4": (-8, 7), "int8": (-128, 127), "uint8": (0, 255)}


def values(shape: str, size: int, seed: int) -> Floats:
    """Return seeded values."""
    rng = np.random.default_rng(seed)
    if shape == "Laplace":
        return rng.laplace(size=size).astype(np.float32)
    x = rng.standard_normal(size).astype(np.float32)
    return np.maximum(x, 0) if shape == "ReLU of Gaussian" else x


def error(x: Floats, scale: float, codes: tuple[int, int], p: float) -> float:
    """Return the mean of |x - x_hat|^p with zero point 0, by definition."""
    step = np.float32(scale)
    back = np.clip(np.rint(x / step), *codes) * np.float64(step)
    return float((np.abs(x - back) ** p).mean())


def regret(x: Floats, format: str, p: float, bits: int | None, count: int) -> float:
    """Return the error of the found range above the best of the scan, in percent."""
    codes = CODES[format]
    reals = x.astype(np.float32)
    histogram = qc.Histogram(bits).observe(x)
    found = qc.calibrate(histogram, qc.MSE(p=p), format=format)
    assert found.zero_point == 0
    most = float(np.abs(reals).max()) / codes[1]
    scan = (error(reals, s, codes, p) for s in np.linspace(0.3, 1.0, count) * most)
    return 100 * (error(reals, float(found.scale), codes, p) / min(scan) - 1)


def cases(*, smoke: bool) -> Iterator[tuple[str, list[float]]]:
    """Yield the name of each case, and its regrets with several seeds."""
    seeds, count = (2, 50) if smoke else (12, 1000)
    for p in NORMS:
        for size in SIZES[:1] if smoke else SIZES:
            for dtype, bits in (("float16", None), ("float32", None), ("float32", 10)):
                for shape in SHAPES:
                    for format in ("uint8",) if shape[0] == "R" else ("int4", "int8"):
                        found = [
                            regret(
                                values(shape, size, s).astype(dtype),
                                format,
                                p,
                                bits,
                                count,
                            )
                            for s in range(seeds)
                        ]
                        resolution = "" if bits is None else f", {bits} mantissa bits"
                        name = f"p = {p:g}, {size:6,} {dtype}{resolution}"
                        yield f"{name}, {shape}, {format}", found


def main(*, smoke: bool) -> None:
    """Print the median and the maximum of each case."""
    print(f"{'percent above the scan':<66}  median     max")
    above = total = 0
    for name, found in cases(smoke=smoke):
        print(f"{name:<66} {np.median(found):7.3f} {max(found):7.3f}")
        above += sum(one > LIMIT for one in found)
        total += len(found)
    print(f"{above} of {total} above {LIMIT} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few values")
    main(smoke=parser.parse_args().smoke)
