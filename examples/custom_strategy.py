"""A custom strategy: any object with `range(histogram, format)`."""

from dataclasses import dataclass

import numpy as np

import quantcal as qc


@dataclass(frozen=True)
class Deviations:
    """The range of `count` standard deviations around the mean, within the data."""

    count: float = 4.0

    def range(
        self, histogram: qc.Histogram, format: qc.QuantFormat
    ) -> tuple[float, float]:
        mean, std = histogram.mean(), histogram.std()
        if mean is None or std is None:  # no finite value was observed
            return 0.0, 0.0
        # A histogram also has quantiles, moments, bins, minimum and maximum.
        low = max(mean - self.count * std, histogram.min)
        high = min(mean + self.count * std, histogram.max)
        return low, high

    def explain(self, histogram: qc.Histogram, format: qc.QuantFormat) -> str:
        """Return the reason in the report; this method is optional."""
        return f"standard deviation {histogram.std():.2f}"

    def __str__(self) -> str:  # the name in tables
        return f"deviations({self.count:g})"


cal = qc.Calibrator()
rng = np.random.default_rng(0)
cal.observe("attention", rng.standard_normal(50_000, dtype=np.float32))
cal.observe("feed_forward", rng.standard_t(3, 50_000).astype(np.float32))

# It may replace the name of a strategy anywhere: alone, in rules, inside a hybrid.
rules = {"attention": Deviations(), "*": qc.Hybrid(Deviations(12), "mse")}
table = cal.compute(rules, format="uint8")
for name, params in table.items():
    report = table.report[name]
    print(
        f"{name}: {params.strategy}, [{params.low:.2f}, {params.high:.2f}], "
        f"SQNR {report.sqnr_db:.1f} dB {report.reason}"
    )
