"""Observe once, then ask the same file for the ranges of several strategies.

Nothing is run again: each strategy takes milliseconds, and the report of every range, its
clipped share and its noise, comes from the same histograms.
"""

import tempfile
from pathlib import Path

import numpy as np

import quantcal as qc

rng = np.random.default_rng(0)
bell = rng.standard_normal(200_000, dtype=np.float32)
outliers = bell.copy()
outliers[:20] *= 30  # one value in ten thousand

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "stats.qcal"
    cal = qc.Calibrator()
    cal.observe_many({"bell": bell, "relu": np.maximum(bell, 0), "outliers": outliers})
    cal.save(path)  # the slow part of a real calibration ends here
    stats = qc.load(path)

strategies = ["minmax", "percentile_99.99", "percentile_adaptive", "kl", "mse"]
strategies += ["entropy", "aciq", "hybrid"]
tables = {name: stats.compute(name, format="int8") for name in strategies}

for tensor in stats:
    print(f"{tensor}: highest value {stats[tensor].max:.2f}")
    for name, table in tables.items():
        report = table.report[tensor]
        print(
            f"  {name:<20} up to {table[tensor].high:6.2f}, clips "
            f"{report.clipped:8.4%}, SQNR {report.sqnr_db:5.1f} dB"
        )
    best = max(tables, key=lambda name: tables[name].report[tensor].sqnr_db)
    print(f"  least noise: {best}")
print(f"why: {tables['aciq'].report['relu'].reason}")
