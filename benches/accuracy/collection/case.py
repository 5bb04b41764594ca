"""What a case is: a network, samples to calibrate and to judge, and what it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
Outputs = dict[str, Array]
Decide = Callable[[Outputs], Any]
Rate = Callable[[list[Any], list[Any]], Sequence[float]]


@dataclass(frozen=True)
class Metric:
    """What a user of the network would count, as a share for each held-out sample.

    Attributes
    ----------
    name
        What is counted. It says "as the float model" if there are no true answers.
    decide
        Takes the outputs of one sample and returns what a user takes from them.
    rate
        Takes the float model's decisions and those to judge; returns a number from 0 to 1
        for each sample.
    """

    name: str
    decide: Decide
    rate: Rate


def all_outputs(_: Outputs, outputs: Outputs) -> Outputs:
    """Return the outputs as they are."""
    return outputs


@dataclass(frozen=True)
class Case:
    """A network with its samples.

    Attributes
    ----------
    name
        The short name, which is that of the registry.
    kind
        What the network does, and how it is built.
    data
        Where the samples come from.
    model
        The float model.
    calibration, held_out
        The samples that ranges are chosen from, and those that are judged.
    metric
        The task.
    view
        Takes the float model's outputs and those to judge; returns what has a loss. By
        default all of them.
    """

    name: str
    kind: str
    data: str
    model: Path
    calibration: list[Feed]
    held_out: list[Feed]
    metric: Metric
    view: Callable[[Outputs, Outputs], Outputs] = all_outputs


Build = Callable[[Path, int, int], Case]
"""Takes a folder for exports and the numbers of samples to calibrate and to judge."""
