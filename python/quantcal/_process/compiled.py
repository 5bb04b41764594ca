"""Loads the compiled parts, numpy's and ours, before all else; a signal waits until then."""

from __future__ import annotations

from quantcal._process.signals import deferred

with deferred():
    import ml_dtypes  # noqa: F401
    import numpy  # noqa: F401, ICN001

    import quantcal._core  # noqa: F401
