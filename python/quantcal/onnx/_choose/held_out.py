"""Held-out samples: every fifth one is kept apart, to check the result."""

from __future__ import annotations

from collections.abc import Iterator

from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._runtime.samples import Samples

PERIOD = 5
"""A fifth: enough to check, and most samples still decide."""


class HeldOut:
    """An iterable of the samples that decide; the others are kept.

    Parameters
    ----------
    samples : Samples
    most : int
        The number of samples to keep at most.
    """

    def __init__(self, samples: Samples, most: int) -> None:
        self._samples = samples
        self._added = 0
        self.kept = KeptSamples(
            1, most, number_of=lambda number: number * PERIOD + PERIOD - 1
        )

    @staticmethod
    def deciding(number: int) -> int:
        """Return the number among all samples of one that is not held out."""
        return number + number // (PERIOD - 1)

    def again(self) -> Samples:
        """Return the samples that decide as samples, to be read once more.

        They are read from the first, or refused, as the given ones are.
        """
        count = None if self._samples.count is None else len(self)
        return Samples(
            lambda: (("", feed) for feed in self),
            self._samples.inputs,
            count=count,
            rewindable=self._samples.rewindable,
        )

    def __iter__(self) -> Iterator[Feed]:
        for number, feed in enumerate(self._samples):
            if number % PERIOD != PERIOD - 1:
                yield feed
            elif number // PERIOD == self._added:  # corrections read the samples again
                self._added += 1
                self.kept.add(number // PERIOD, feed)

    def __len__(self) -> int:
        count = len(self._samples)
        return count - count // PERIOD
