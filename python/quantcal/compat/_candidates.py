"""The two steps of every search here: bounds from running totals, then exact values.

Running totals bound the criterion of all candidates at little cost. Only a candidate whose
lower bound is not above the smallest upper bound may be the best. These few are computed with
the operations of the original, so that ties and roundings are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Maximum number of array elements in memory at once, in candidates times levels or bins.
_CELLS = 1 << 18


def running_totals(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of the first 0, 1, 2, ... values."""
    return np.concatenate(([0], np.cumsum(values)))


def running_shares(hist: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of the counts up to each bin; infinity if all counts are zero."""
    total = hist.sum()
    # The originals divide 0 by 0, and find every goal at the first edge.
    return np.cumsum(hist / total) if total else np.full(hist.size, np.inf)


def in_blocks(
    candidates: NDArray[np.int64],
    cells: int,
    evaluate: Callable[[NDArray[np.int64]], NDArray[Any]],
) -> NDArray[Any]:
    """Evaluate candidates in blocks of limited memory.

    Parameters
    ----------
    candidates
        Candidates of any kind, such as widths.
    cells
        Number of array elements that one candidate needs.
    evaluate
        Returns the value of each candidate in a block.

    Returns
    -------
    The values of all candidates, in order.
    """
    block = max(1, _CELLS // cells)
    starts = range(0, candidates.size, block)
    return np.concatenate([evaluate(candidates[at : at + block]) for at in starts])


def may_be_best(lower: NDArray[Any], upper: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which candidates may have the minimum, from bounds of their values."""
    possible: NDArray[np.bool_] = lower <= upper.min()
    return possible
