"""ModelOpt's search for the minimum squared error, with torch's float32 arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcal.compat._candidates import in_blocks, may_be_best, running_totals

Floats = NDArray[np.float32]

# The relative error of a float32 quantizer: four roundings of 6e-8. One of them may also
# choose the neighboring level where both are equally far.
_QUANTIZER_ERROR = 5e-7
# The relative error of squaring, weighting and torch's sum: some ten roundings of 6e-8.
_SUM_ERROR = 1e-5
# The relative error of differences of running totals.
_TOTALS_ERROR = 1e-7
# ModelOpt takes an amax up to this for zero.
_TINY = np.float32(2.0**-24)
# Above this, squares might overflow.
_HUGE = np.float32(1e12)


@dataclass(frozen=True)
class Quantizer:
    """The options of ModelOpt's fake quantizer."""

    num_bits: int
    unsigned: bool
    bias: int = 0


def best_center(
    hist: NDArray[np.int64],
    centers: Floats,
    candidates: NDArray[np.int64],
    quantizer: Quantizer,
) -> float:
    """Return the first candidate center with the minimum loss."""
    weights = hist.astype(np.float32)
    lowest, highest = centers[candidates[0]], centers[-1]
    # Otherwise the bounds do not hold, since one bit gives NaN. Then all are computed.
    if quantizer.num_bits != 1 and lowest > _TINY and highest < _HUGE and hist.any():
        lower, upper = _loss_bounds(hist, centers, candidates, quantizer)
        candidates = candidates[may_be_best(lower, upper)]
    losses = in_blocks(
        candidates,
        hist.size,
        lambda block: _losses(weights, centers, centers[block, None], quantizer),
    )
    return float(centers[candidates[np.argmin(losses)]])


def _loss_bounds(
    hist: NDArray[np.int64],
    centers: Floats,
    candidates: NDArray[np.int64],
    quantizer: Quantizer,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return bounds of the candidates' losses in float32.

    By the triangle inequality, the norm of the error in float32 differs from the exact norm
    by at most the norm of the quantizer's rounding errors.
    """
    c = centers.astype(np.float64)
    amax = c[candidates]
    totals = [running_totals(hist * power) for power in (1.0, c, c * c)]
    if quantizer.num_bits == 0:
        # Every value becomes amax + bias.
        level = amax + quantizer.bias
        number, first, second = (t[-1] for t in totals)
        squares = level * level * number - 2 * level * first + second
        errors = np.abs(level) * np.sqrt(number) + np.sqrt(second)
        slack = _QUANTIZER_ERROR * errors
    else:
        squares = _grid_errors(c, totals, amax, quantizer)
        slack = np.full(amax.size, _QUANTIZER_ERROR * np.sqrt(totals[2][-1]))
    norms = np.sqrt(np.maximum(squares, 0.0))
    slack += _TOTALS_ERROR * np.sqrt(totals[2][-1])
    lower = np.maximum(norms - slack, 0.0) ** 2 * (1 - _SUM_ERROR)
    return lower, (norms + slack) ** 2 * (1 + _SUM_ERROR)


def _grid_errors(
    c: NDArray[np.float64],
    totals: list[NDArray[np.float64]],
    amax: NDArray[np.float64],
    quantizer: Quantizer,
) -> NDArray[np.float64]:
    """Return the squared error of each grid: level by level S2 - 2 q S1 + q^2 N."""
    bound = (1 << (quantizer.num_bits - 1 + quantizer.unsigned)) - 1
    levels = np.arange(bound + 1)

    def errors(block: NDArray[np.int64]) -> NDArray[np.float64]:
        step = amax[block, None] / bound
        ends = np.searchsorted(c, (levels[1:] - 0.5) * step)
        ends = np.pad(ends, ((0, 0), (1, 1)), constant_values=((0, 0), (0, c.size)))
        number, first, second = (np.diff(t[ends], axis=1) for t in totals)
        q = levels * step
        by_level = second - 2 * q * first + q * q * number
        total: NDArray[np.float64] = by_level.sum(axis=1)
        return total

    return in_blocks(np.arange(amax.size), levels.size, errors)


def _losses(
    weights: Floats, centers: Floats, amax: Floats, quantizer: Quantizer
) -> Floats:
    """Return the mean weighted squared error of the grid of each `amax`."""
    bias = np.float32(quantizer.bias)
    bound = np.float32(2.0 ** (quantizer.num_bits - 1 + quantizer.unsigned) - 1.0)
    lowest = np.float32(0) if quantizer.unsigned else -bound
    shifted = centers - bias if bias else centers
    zero = amax <= _TINY
    with np.errstate(all="ignore"):
        scale = np.where(zero, np.float32(0), bound / amax)
        levels = np.minimum(np.maximum(np.rint(shifted * scale), lowest), bound)
        quantized = levels / np.where(zero, np.float32(1), scale)
        if bias:
            quantized += bias
        error = quantized - centers
        losses = _cascade_sum(error * error * weights)
        losses /= np.float32(centers.size)
    return losses


def _cascade_sum(rows: Floats) -> Floats:
    """Return the sum of each row in the order in which torch adds float32 on x86-64.

    Torch adds 32 numbers at a time into four registers of eight lanes. Every 2^k rounds it
    adds these to the registers of a higher level. Then it adds the registers, the remaining
    numbers, and the lanes. With fewer than eight numbers there is one lane.
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
