"""What has been observed is kept in a file while samples run, in case they do not all.

Only whole samples are ever kept: a sample that fails in the middle has been counted in part,
and what is taken from a histogram cannot be exact. So a sample that cannot be read, and an
interruption, which waits for the end of the sample, lose nothing; a sample on which the model
itself fails, and a process that is killed, what came after the last regular writing.
"""

from __future__ import annotations

import math
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantcal._core import CalibrationError
from quantcal._load import load
from quantcal._process.signals import SIGNALS
from quantcal._text import plural
from quantcal.calibrator import Calibrator
from quantcal.onnx._graph.inputs import Feed

_NUMBER = re.compile(r"\.first-(\d+)\.qcal$")


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is called as those in which histograms are kept."""
    return _NUMBER.search(path.name) is not None


@dataclass(slots=True)
class Checkpoint:
    """Where the histograms of the samples so far are kept while they run.

    The file is named after the number of samples in it, ``OUTPUT.first-57.qcal`` beside the
    output. It is written once in a while and when the samples end early, and stays when all of
    them have run: call :meth:`remove` when the output is written.

    Parameters
    ----------
    output : path
        What the run is for.
    samples : int
        So many of the first samples ran earlier, and are left out. The given calibrator has
        them.
    seconds : float
        How long observing may go on between one writing and the next; 0 writes after each
        sample.

    Attributes
    ----------
    complete : int, optional
        The number of all samples, when they have all run.
    """

    output: Path
    samples: int = 0
    seconds: float = 30.0
    complete: int | None = field(default=None, init=False)
    _written: Path | None = field(default=None, init=False, repr=False)

    @classmethod
    def resume(cls, path: Path, output: Path) -> tuple[Calibrator, Checkpoint]:
        """Read what a run kept, to go on behind it.

        Raises
        ------
        CalibrationError
            If the file cannot be read, or its name does not tell how many samples are in it.
        """
        number = _NUMBER.search(path.name)
        if number is None:
            raise CalibrationError(
                f"{path}: its name does not tell how many samples it holds, as "
                f"{cls(output).path(57).name} does. To add the histograms of other "
                "samples, observe these and use quantcal merge."
            )
        return load(path), cls(output, int(number[1]))

    def done(self, samples: int) -> None:
        """All samples have run, so many, and the calibrator has them."""
        self.complete = samples

    def remove(self) -> None:
        """Remove the file that this run wrote, if it did: the output is safe."""
        if self._written is not None:
            self._written.unlink(missing_ok=True)
            self._written = None

    def write(self, samples: int, seen: Calibrator) -> None:
        """Keep the first so many samples instead of what was kept before."""
        path = self.path(samples)
        if path != self._written:
            seen.save(path)
            self.remove()
            self._written = path

    def message(self) -> str:
        """Return what is kept and how to go on; empty if nothing is."""
        if self._written is None:
            return ""
        number = _NUMBER.search(self._written.name)
        assert number is not None
        count = int(number[1])
        which = "sample" if count == 1 else f"{count} samples"
        return (
            f"The histograms of the first {which} are kept in "
            f"{self._written}; --resume {self._written} goes on behind them."
        )

    def path(self, samples: int) -> Path:
        """Return the file for the first so many samples."""
        return self.output.with_name(f"{self.output.name}.first-{samples}.qcal")

    def found(self) -> list[Path]:
        """Return what earlier runs left, the most samples last."""
        start = self.output.name
        files = [
            (int(number[1]), file)
            for file in self.output.parent.iterdir()
            if file.name.startswith(f"{start}.first-")
            and (number := _NUMBER.fullmatch(file.name, len(start)))
        ]
        return [file for _, file in sorted(files)]


class CheckpointKeeper:
    """Keeps what a run has observed.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        None keeps nothing, and only counts samples.
    snapshot : callable
        Returns all that was observed up to now, copied.

    Attributes
    ----------
    samples : int
        How many samples are whole, those of an earlier run included.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, snapshot: Callable[[], Calibrator]
    ) -> None:
        self._checkpoint = checkpoint
        self._snapshot = snapshot
        self.samples = checkpoint.samples if checkpoint else 0
        self._next = time.monotonic() + (checkpoint.seconds if checkpoint else math.inf)
        self._warned = False
        self._whole = True
        self._busy = False
        self._interrupted = False

    def remaining(self, feeds: Iterable[Feed]) -> Iterator[Feed]:
        """Yield the samples behind those that ran earlier."""
        earlier = self.samples
        skipped = 0
        for feed in feeds:
            if skipped < earlier:
                skipped += 1
            else:
                yield feed
        if skipped < earlier:
            raise CalibrationError(
                f"There are {plural(skipped, 'sample')}, but {earlier} are said to have "
                "run earlier: these are other data."
            )

    @contextmanager
    def saving_at_end(self) -> Iterator[None]:
        """Keep what there is when the samples end early."""
        if self._checkpoint is None:
            yield
            return
        try:
            with self._deferred():
                yield
        except BaseException as error:
            told = self._at_the_end()
            if not told:
                raise
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(told) from error
            if isinstance(error, CalibrationError):
                ended = str(error).rstrip(". \n")
                raise CalibrationError(f"{ended}. {told}") from error
            warnings.warn(told, stacklevel=2)
            raise

    @contextmanager
    def sample(self) -> Iterator[None]:
        """Run one sample: it counts when it is whole."""
        self._busy = True
        self._whole = False
        yield
        self.samples += 1
        self._whole = True
        if time.monotonic() >= self._next:
            started = time.monotonic()
            self._try_to_write()
            ended = time.monotonic()
            # Writing takes at most a hundredth of the time, however many tensors there are.
            pause = self._checkpoint.seconds if self._checkpoint else math.inf
            self._next = ended + (max(pause, 100 * (ended - started)) if pause else 0)
        self._busy = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _write(self) -> None:
        assert self._checkpoint is not None
        self._checkpoint.write(self.samples, self._snapshot())

    def _try_to_write(self) -> None:
        """Keep what there is; a run that may well end without it is not ended for its sake."""
        try:
            self._write()
        except CalibrationError as error:
            if not self._warned:
                told = f"What is observed cannot be kept meanwhile: {error}"
                warnings.warn(told, stacklevel=2)
            self._warned = True

    def _at_the_end(self) -> str:
        """Keep what is whole, and return what there is to be told of it."""
        assert self._checkpoint is not None
        lost = ""
        if self._whole and self.samples > self._checkpoint.samples:
            try:
                self._write()
            except CalibrationError as error:
                lost = f"The last samples could not be kept: {error}"
        return " ".join(filter(None, (lost, self._checkpoint.message())))

    @contextmanager
    def _deferred(self) -> Iterator[None]:
        """Let an interruption wait for the end of the sample; a second one does not."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: Any) -> None:
            if self._interrupted or not self._busy:
                raise KeyboardInterrupt
            self._interrupted = True

        # A signal that is ignored stays so (nohup).
        before = {s: signal.getsignal(s) for s in SIGNALS}
        handled = [s for s, old in before.items() if old not in (signal.SIG_IGN, None)]
        for number in handled:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number in handled:
                signal.signal(number, before[number])
