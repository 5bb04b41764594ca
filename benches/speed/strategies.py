"""Choosing the range of one tensor: every strategy, on one core."""

from __future__ import annotations

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.shapes import gauss
from benches.harness.timing import interleave
from benches.harness.yardsticks import ARITHMETIC, logs
from quantcal.comparison.api import STRATEGIES

TARGETS = {
    "kl, int8": 1.0,
    "mse, uint8": 3.0,
    "entropy, int8": 3.0,
    "entropy, uint8": 3.0,
}
"""Milliseconds for one search. uint8 is affine: both ends are searched."""

ALL = 12.0  # milliseconds for all searches together


def main(*, smoke: bool) -> Sheet:
    """Time all strategies, one by one and together, on a histogram of N(0, 1)."""
    n = 1 << (16 if smoke else 20)
    histogram = qc.Histogram().observe(gauss(n))
    sheet = Sheet("strategies")
    for name in ("int8", "uint8"):
        _check(histogram, name)
        _time(sheet, histogram, name, rounds=2 if smoke else 9)
    return sheet


def _check(histogram: qc.Histogram, name: str) -> None:
    """Check before timing that MSE has the smallest squared error."""
    errors = {row.strategy: row.mse for row in qc.compare(histogram, name)["values"]}
    assert errors["mse"] <= min(errors.values()) * 1.002


def _time(sheet: Sheet, histogram: qc.Histogram, name: str, *, rounds: int) -> None:
    format = qc.QuantFormat(name)
    together, compare = f"the {len(STRATEGIES)} searches", "quantcal.compare"
    work = {
        ARITHMETIC: logs(),
        **{
            f"{strategy}, {name}": lambda s=strategy: s.range(histogram, format)
            for strategy in STRATEGIES
        },
        together: lambda: [
            strategy.range(histogram, format) for strategy in STRATEGIES
        ],
        compare: lambda: qc.compare(histogram, format),
    }
    seconds = interleave(work, rounds=rounds)
    rows = {row: (row, TARGETS.get(row)) for row in work if row != ARITHMETIC}
    rows[together] = (f"all searches, {name}", ALL)
    rows[compare] = (f"quantcal.compare, with all figures, {name}", None)
    for key, (row, target) in rows.items():
        sheet.add(
            row,
            "1 core",
            seconds[key],
            unit="ms",
            per=1e-3,
            at_most=target,
            yardstick=(ARITHMETIC, seconds[ARITHMETIC]),
        )
