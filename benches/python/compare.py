"""Comparing: the time of all methods for one tensor, on one core."""

from __future__ import annotations

import numpy as np
from timing import interleave, show

import quantcal as qc
from quantcal.comparing import STRATEGIES


def main(*, smoke: bool) -> None:
    """Time all methods, together and one by one, on the histogram of N(0, 1)."""
    n = 1 << 16 if smoke else 1_000_000
    rounds = 1 if smoke else 9
    x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    histogram = qc.Histogram().observe(x)
    threads = qc.get_num_threads()
    qc.set_num_threads(1)
    for name in ("int8", "uint8"):
        format = qc.QuantFormat(name)
        work = {
            "quantcal.compare, all methods and figures": lambda f=format: qc.compare(
                histogram, f
            ),
            "searches of all methods": lambda f=format: [
                strategy.range(histogram, f) for strategy in STRATEGIES
            ],
            **{
                str(strategy): lambda s=strategy, f=format: s.range(histogram, f)
                for strategy in STRATEGIES
            },
        }
        title = f"ranges of one tensor, {n:,} values, {name}, 1 thread, {rounds} rounds"
        seconds = interleave(work, rounds=rounds)
        show(title, seconds, per=1e-3, unit="ms", ours="searches of all methods")
    qc.set_num_threads(threads)


if __name__ == "__main__":
    main(smoke=False)
