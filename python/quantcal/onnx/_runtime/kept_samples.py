"""The samples on which trials run, and the fold of each.

Sample i belongs to fold i mod k. From a long or endless stream a bounded number is kept,
spread evenly over the whole stream: when there are too many, every second group of k
consecutive samples is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.array_store import MEMORY, ArrayStore


class KeptSamples:
    """Kept samples, in the order in which they came.

    Parameters
    ----------
    folds : int
        Number of folds, k.
    most : int
        Number of samples to keep at most; at least two groups of k.
    memory : int
        Bytes that stay in memory; the rest goes to disk.
    number_of : callable
        From the number of a sample here to the caller's, if others stand between them.
    """

    def __init__(
        self,
        folds: int,
        most: int,
        memory: int = MEMORY,
        number_of: Callable[[int], int] = lambda number: number,
    ) -> None:
        self.folds = folds
        self._number_of = number_of
        self._most = max(most, 2 * folds)
        self._stride = 1
        self._numbers: list[int] = []
        self._store = ArrayStore(memory)

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, feed: Feed) -> None:
        """Keep a sample if its turn has come; ``number`` counts all samples."""
        if (number // self.folds) % self._stride:
            return
        if len(self._numbers) >= self._most:
            self._thin()
            if (number // self.folds) % self._stride:
                return
        self._numbers.append(number)
        self._store.append(dict(feed))

    def _thin(self) -> None:
        self._stride *= 2
        kept = [
            index
            for index, number in enumerate(self._numbers)
            if not (number // self.folds) % self._stride
        ]
        self._store.keep(kept)
        self._numbers = [self._numbers[index] for index in kept]

    def feed(self, index: int) -> Feed:
        """Return a kept sample."""
        feed: Feed = self._store[index]
        return feed

    def where(self, index: int) -> str:
        """Return the name of a kept sample in errors."""
        return f"sample {self.number(index)}"

    def number(self, index: int) -> int:
        """Return the number of a kept sample among all that the caller gave."""
        return self._number_of(self._numbers[index])

    def fold(self, index: int) -> int:
        """Return the fold of a kept sample."""
        return self._numbers[index] % self.folds

    def close(self) -> None:
        """Delete the samples."""
        self._store.close()


class FirstSamples:
    """The first samples of a stream, in the order in which they came.

    Parameters
    ----------
    most : int
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._store = ArrayStore()

    def add(self, _: int, feed: Feed) -> None:
        """Keep a sample, unless there are enough."""
        if len(self._store) < self._most:
            self._store.append(dict(feed))

    def fill(self, samples: Iterable[Feed]) -> None:
        """Keep the first of these samples."""
        for number, feed in enumerate(islice(samples, self._most)):
            self.add(number, feed)

    def __iter__(self) -> Iterator[Feed]:
        for index in range(len(self._store)):
            yield self._store[index]

    def close(self) -> None:
        """Delete the samples."""
        self._store.close()
