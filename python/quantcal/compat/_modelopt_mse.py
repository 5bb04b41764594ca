"""ModelOpt's search for the least squared error, with torch's float32 arithmetic.

Float64 estimates from running totals leave a few candidates, which are then computed in
float32, operation by operation as torch does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# A float32 quantiser is off by at most 5e-7 of the value: four roundings of 6e-8, one of
# which may also choose the neighbouring level where both are equally far.
_SLIP = 5e-7
# Squaring, weighting and torch's sum: some ten roundings of 6e-8, and a margin.
_SUM_SLIP = 1e-5
_CELLS = 1 << 18
_TINY = np.float32(2.0**-24)  # ModelOpt takes an amax up to this for zero
_HUGE = np.float32(1e12)  # beyond, squares might overflow


def best_centre(
    hist: NDArray[np.int64],
    centres: Floats,
    candidates: NDArray[np.int64],
    bias: int,
    num_bits: int,
    unsigned: bool,
) -> float:
    """Return the first candidate centre with the least loss."""
    weights = hist.astype(np.float32)
    lowest, highest = centres[candidates[0]], centres[-1]
    # Elsewhere the estimates do not hold (one bit gives NaN), and all are computed.
    if num_bits != 1 and lowest > _TINY and highest < _HUGE and hist.any():
        candidates = candidates[
            _near(hist, centres, candidates, bias, num_bits, unsigned)
        ]
    losses = []
    block = max(1, _CELLS // hist.size)
    for at in range(0, candidates.size, block):
        amax = centres[candidates[at : at + block], None]
        losses.append(_losses(weights, centres, amax, bias, num_bits, unsigned))
    return float(centres[candidates[np.argmin(np.concatenate(losses))]])


def _near(
    hist: NDArray[np.int64],
    centres: Floats,
    candidates: NDArray[np.int64],
    bias: int,
    num_bits: int,
    unsigned: bool,
) -> NDArray[np.bool_]:
    """Return which candidates could have the least loss in float32.

    The norms of the error in float32 and in exact arithmetic differ by no more than the norm
    of the quantiser's slips (the triangle inequality).
    """
    c = centres.astype(np.float64)
    amax = c[candidates]
    running = [
        np.concatenate(([0.0], np.cumsum(hist * power))) for power in (1.0, c, c * c)
    ]
    if num_bits == 0:  # everything becomes amax + bias
        level = amax + bias
        number, first, second = (r[-1] for r in running)
        squares = level * level * number - 2 * level * first + second
        slips = _SLIP * (np.abs(level) * np.sqrt(number) + np.sqrt(second))
    else:
        squares = _grid_errors(c, running, amax, num_bits, unsigned)
        slips = np.full(amax.size, _SLIP * np.sqrt(running[2][-1]))
    norms = np.sqrt(np.maximum(squares, 0.0))
    # What differences of running totals may lose to rounding.
    slips += 1e-7 * np.sqrt(running[2][-1])
    least = np.maximum(norms - slips, 0.0) ** 2 * (1 - _SUM_SLIP)
    most = (norms + slips) ** 2 * (1 + _SUM_SLIP)
    near: NDArray[np.bool_] = least <= most.min()
    return near


def _grid_errors(
    c: NDArray[np.float64],
    running: list[NDArray[np.float64]],
    amax: NDArray[np.float64],
    num_bits: int,
    unsigned: bool,
) -> NDArray[np.float64]:
    """Return the squared error of each grid: level by level S2 - 2 q S1 + q^2 N."""
    bound = (1 << (num_bits - 1 + unsigned)) - 1
    levels = np.arange(bound + 1)
    parts = []
    block = max(1, _CELLS // levels.size)
    for at in range(0, amax.size, block):
        step = amax[at : at + block, None] / bound
        ends = np.searchsorted(c, (levels[1:] - 0.5) * step)
        ends = np.pad(ends, ((0, 0), (1, 1)), constant_values=((0, 0), (0, c.size)))
        number, first, second = (np.diff(r[ends], axis=1) for r in running)
        q = levels * step
        parts.append((second - 2 * q * first + q * q * number).sum(axis=1))
    return np.concatenate(parts)


def _losses(
    weights: Floats,
    centres: Floats,
    amax: Floats,
    bias: int,
    num_bits: int,
    unsigned: bool,
) -> Floats:
    """Return the mean weighted squared errors of the grids of `amax`, shape (rows, 1)."""
    bound = np.float32(2.0 ** (num_bits - 1 + unsigned) - 1.0)
    least = np.float32(0) if unsigned else -bound
    shifted = centres - np.float32(bias) if bias else centres
    zero = amax <= _TINY
    with np.errstate(all="ignore"):
        scale = np.where(zero, np.float32(0), bound / amax)
        levels = np.minimum(np.maximum(np.rint(shifted * scale), least), bound)
        quantized = levels / np.where(zero, np.float32(1), scale)
        if bias:
            quantized += np.float32(bias)
        error = quantized - centres
        losses = cascade_sum(error * error * weights)
        losses /= np.float32(centres.size)
    return losses


def cascade_sum(rows: Floats) -> Floats:
    """Return the sum of each row in the order in which torch adds float32 on x86-64.

    32 numbers at a time into four registers of eight lanes, which are emptied into those of
    a higher level every 2^k rounds; then registers, what is left over, and lanes in turn.
    Fewer than eight numbers go one lane wide.
    """
    lanes = 8 if rows.shape[1] >= 8 else 1
    vectors = rows.shape[1] // lanes
    packed = rows[:, : vectors * lanes].reshape(rows.shape[0], vectors, lanes)
    rounds = vectors // 4
    quads = packed[:, : rounds * 4].reshape(rows.shape[0], rounds, 4, lanes)
    registers = _leveled_sum(quads)
    for vector in range(rounds * 4, vectors):
        registers[:, 0] += packed[:, vector]
    for register in range(1, 4):
        registers[:, 0] += registers[:, register]
    result = np.zeros(rows.shape[0], dtype=np.float32)
    for column in range(vectors * lanes, rows.shape[1]):
        result += rows[:, column]
    for lane in range(lanes):
        result += registers[:, 0, lane]
    return result


def _leveled_sum(quads: Floats) -> Floats:
    """Return the sum over axis 1, through four levels of accumulators."""
    rounds = quads.shape[1]
    power = max(4, (max(rounds, 1) - 1).bit_length() // 4)
    step = 1 << power
    levels = np.zeros((4, quads.shape[0], *quads.shape[2:]), dtype=np.float32)
    done = 0
    while done + step <= rounds:
        for _ in range(step):
            levels[0] += quads[:, done]
            done += 1
        for level in range(1, 4):
            levels[level] += levels[level - 1]
            levels[level - 1] = 0
            if done & ((step - 1) << (level * power)):
                break
    for row in range(done, rounds):
        levels[0] += quads[:, row]
    for level in range(1, 4):
        levels[0] += levels[level]
    total: Floats = levels[0]
    return total
