"""Checks the arguments of `advise`, and reads its samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from quantcal._core import CalibrationError
from quantcal._plain_values import as_real, as_whole
from quantcal._text import shown
from quantcal.formats import QuantFormat
from quantcal.torch.sample_runner import Sample, as_sample


def as_samples(samples: Iterable[Any]) -> list[Sample]:
    """Return the inputs of each forward pass.

    Raises
    ------
    TypeError
        If it is a single input.
    CalibrationError
        If there are fewer than two.
    """
    single = (torch.Tensor, Mapping, str, bytes)
    if isinstance(samples, single) or not isinstance(samples, Iterable):
        msg = (
            f"samples must be a sequence of model inputs, not {type(samples).__name__}; "
            "give a list, such as [batch1, batch2]"
        )
        raise TypeError(msg)
    found = [as_sample(sample) for sample in samples]
    if len(found) < 2:
        msg = (
            f"There are {len(found)} samples, but one half proposes what to leave in float "
            "and the other confirms it. Give 2 or more, better 8."
        )
        raise CalibrationError(msg)
    return found


def check_options(keep_float: Any, budget: Any, time_limit: Any, weights: Any) -> None:
    """Refuse options outside their limits.

    Raises
    ------
    CalibrationError
        If one is; names it.
    """
    number = as_whole(keep_float)
    if number is None or number < 0:
        msg = f"keep_float is {shown(keep_float)}, but it must be a whole number of 0 or more"
        raise CalibrationError(msg)
    if budget is not None:
        part = as_real(budget)
        if part is None or not 0 <= part <= 1:
            msg = (
                f"budget is {shown(budget)}, but it must be a share of 0 to 1, or None"
            )
            raise CalibrationError(msg)
    if time_limit is not None:
        seconds = as_real(time_limit)
        if seconds is None or not seconds > 0:
            msg = (
                f"time_limit is {shown(time_limit)}, but it must be a number of seconds "
                "above 0, or None"
            )
            raise CalibrationError(msg)
    if weights is not None and not isinstance(weights, (str, QuantFormat)):
        msg = (
            f'weights is {type(weights).__name__}, but it must be a format such as "int8", '
            "or None; modules in float keep their weights"
        )
        raise CalibrationError(msg)
