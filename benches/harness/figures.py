"""`Sheet`: the figures of one group of benches, with targets and yardsticks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number: the median of several rounds, with minimum and maximum."""

    work: str  # what was done
    how: str  # "1 core", "2 cores", or another condition
    value: float
    low: float
    high: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    yardstick: str | None = None  # simple work timed in the same rounds
    yardstick_value: float | None = None  # its median, in the same unit

    @property
    def key(self) -> str:
        """The name of this figure in every run."""
        return f"{self.work} | {self.how} | {self.unit}"

    @property
    def target(self) -> str:
        """The target as text; empty without one."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else ""

    @property
    def verdict(self) -> str:
        """ "reached" or "missed"; empty without a target."""
        if self.at_most is not None:
            return "reached" if self.value <= self.at_most else "missed"
        if self.at_least is not None:
            return "reached" if self.value >= self.at_least else "missed"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return the figure as it is written to a file."""
        return {**asdict(self), "target": self.target, "verdict": self.verdict}


class Sheet:
    """The figures of one group, in the order of measurement."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.others: float | None = None  # share of the processors that others used
        self.figures: list[Figure] = []

    def add(
        self,
        work: str,
        how: str,
        samples: Sequence[float],
        *,
        unit: str,
        per: float = 1.0,
        at_most: float | None = None,
        at_least: float | None = None,
        yardstick: tuple[str, Sequence[float]] | None = None,
    ) -> None:
        """Add the median of `samples`, each divided by `per`."""
        name, beside = yardstick or (None, ())
        self.figures.append(
            Figure(
                work,
                how,
                statistics.median(samples) / per,
                min(samples) / per,
                max(samples) / per,
                unit,
                at_most,
                at_least,
                name,
                statistics.median(beside) / per if name else None,
            )
        )

    def ratio(
        self,
        work: str,
        how: str,
        above: Sequence[float],
        below: Sequence[float],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Add the ratio of two medians; minimum and maximum are over the rounds' ratios."""
        rounds = [a / b for a, b in zip(above, below, strict=True)]
        self.figures.append(
            Figure(
                work,
                how,
                statistics.median(above) / statistics.median(below),
                min(rounds),
                max(rounds),
                "×",
                at_most,
                at_least,
            )
        )

    def show(self, *, verdicts: bool = True) -> None:
        """Print all figures with their targets and verdicts."""
        wide = max(len(figure.work) for figure in self.figures)
        print(f"\n{self.group}")
        for f in self.figures:
            extent = f"[{number(f.low)} … {number(f.high)}]"
            print(
                f"  {f.work:<{wide}}  {f.how:<22} {number(f.value):>8} {f.unit:<11} "
                f"{extent:<20} {f.target:<8} {f.verdict if verdicts else ''}".rstrip(),
                flush=True,
            )


def number(value: float) -> str:
    """Return three significant digits, such as 0.576, 4.03, 12.1 or 390."""
    if value == 0 or not abs(value) < 1e6:
        return f"{value:.3g}"
    decimals = 3
    for limit in (1, 10, 100):
        decimals -= abs(value) >= limit
    return f"{value:.{decimals}f}"
