"""Loads the compiled modules, numpy's and ours, first; signals wait until then."""

from __future__ import annotations

from quantcal._process.signals import deferred

with deferred():
    import ml_dtypes  # noqa: F401
    import numpy  # noqa: F401, ICN001

    import quantcal._core  # noqa: F401
