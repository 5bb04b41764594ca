"""Checkpoints: the histograms of the samples so far, saved in case the run ends early.

A checkpoint holds complete samples only, because counts cannot be subtracted from a
histogram again. A sample that cannot be read loses nothing. An interruption loses nothing
either: it waits for the end of the sample. A sample on which the model fails was counted in
part, so the samples since the last checkpoint are lost. So they are when the process is killed.
"""

from __future__ import annotations

import math
import os
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
from quantcal._param_checks import as_number
from quantcal._plain_values import as_whole
from quantcal._process.signals import SIGNALS
from quantcal._text import plural, shown
from quantcal.calibrator import Calibrator
from quantcal.onnx._graph.inputs import Feed

_NUMBER = re.compile(r"\.first-(\d+)\.qcal$")


def is_checkpoint(path: Path) -> bool:
    """Return whether a file has the name of a checkpoint."""
    return _NUMBER.search(path.name) is not None


@dataclass(slots=True)
class Checkpoint:
    """Where the histograms of the samples so far are saved while they run.

    The file lies beside the output. Its name has the number of samples in it:
    ``OUTPUT.first-57.qcal``. It is written at intervals and when the samples end early. It
    stays when all samples have run: call :meth:`remove` when the output is written.

    Parameters
    ----------
    output : path
        What the run is for.
    samples : int
        Number of samples that ran earlier. They are skipped; the given calibrator has them.
    seconds : float
        Time between two checkpoints; 0 writes one after each sample.

    Attributes
    ----------
    complete : int, optional
        The number of samples, once all have run.

    Raises
    ------
    CalibrationError
        If a number is negative or not a number.
    """

    output: Path
    samples: int = 0
    seconds: float = 30.0
    complete: int | None = field(default=None, init=False)
    _written: Path | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.output = Path(self.output)
        samples = as_whole(self.samples)
        if samples is None or samples < 0:
            raise CalibrationError(
                f"samples is {shown(self.samples)}. Give a whole number, 0 or more."
            )
        seconds = as_number("seconds", self.seconds)
        if not seconds >= 0:
            raise CalibrationError(f"seconds is {seconds}. Give 0 or more.")
        self.samples, self.seconds = samples, float(seconds)

    @classmethod
    def resume(
        cls, path: str | os.PathLike[str], output: str | os.PathLike[str]
    ) -> tuple[Calibrator, Checkpoint]:
        """Load the checkpoint of an earlier run, to continue after its samples.

        Raises
        ------
        CalibrationError
            If the file cannot be read, or its name lacks the number of samples.
        """
        path = Path(path)
        number = _NUMBER.search(path.name)
        if number is None:
            raise CalibrationError(
                f"{path}: its name does not say how many samples it holds, as "
                f"{cls(Path(output)).path(57).name} does. To add the histograms of other "
                "samples, observe those and use quantcal merge."
            )
        return load(path), cls(Path(output), int(number[1]))

    def done(self, samples: int) -> None:
        """Note that all samples have run, and how many there are."""
        self.complete = samples

    def remove(self) -> None:
        """Remove the checkpoint that this run wrote, if any: the output is safe."""
        if self._written is not None:
            self._written.unlink(missing_ok=True)
            self._written = None

    def write(self, samples: int, seen: Calibrator) -> None:
        """Save a checkpoint of the first samples, and remove the one before it."""
        path = self.path(samples)
        if path != self._written:
            seen.save(path)
            self.remove()
            self._written = path

    def message(self) -> str:
        """Return what was saved and how to continue; empty if nothing was."""
        if self._written is None:
            return ""
        number = _NUMBER.search(self._written.name)
        assert number is not None
        count = int(number[1])
        which = "sample" if count == 1 else f"{count} samples"
        kept = f"The histograms of the first {which} are kept in {self._written}"
        return f"{kept}; {self.advice(self._written)}."

    def advice(self, file: Path) -> str:
        """Return how to continue with a file, as the end of a sentence."""
        paths = ", ".join(repr(str(path)) for path in (file, self.output))
        return f"quantcal.onnx.Checkpoint.resume({paths}) continues after them"

    def path(self, samples: int) -> Path:
        """Return the file for that number of samples."""
        return self.output.with_name(f"{self.output.name}.first-{samples}.qcal")

    def found(self) -> list[Path]:
        """Return the checkpoints of earlier runs, sorted by number of samples."""
        start = self.output.name
        files = [
            (int(number[1]), file)
            for file in self.output.parent.iterdir()
            if file.name.startswith(f"{start}.first-")
            and (number := _NUMBER.fullmatch(file.name, len(start)))
        ]
        return [file for _, file in sorted(files)]


class CheckpointKeeper:
    """Saves checkpoints of a run.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        None saves nothing; samples are only counted.
    snapshot : callable
        Returns a copy of all histograms up to now.

    Attributes
    ----------
    samples : int
        Number of complete samples, those of an earlier run included.
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
        """Yield the samples after those that ran earlier."""
        earlier = self.samples
        skipped = 0
        for feed in feeds:
            if skipped < earlier:
                skipped += 1
            else:
                yield feed
        if skipped < earlier:
            raise CalibrationError(
                f"There are {plural(skipped, 'sample')}, but the checkpoint holds {earlier}: "
                "it is of other data. Give the samples of that run, or start without it."
            )

    @contextmanager
    def saving_at_end(self) -> Iterator[None]:
        """Save a checkpoint when the samples end early, and mention it in the error."""
        if self._checkpoint is None:
            yield
            return
        try:
            with self._deferred():
                yield
        except BaseException as error:
            message = self._at_the_end()
            if not message:
                raise
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(message) from error
            if isinstance(error, CalibrationError):
                ended = str(error).rstrip(". \n")
                raise CalibrationError(f"{ended}. {message}") from error
            warnings.warn(message, stacklevel=2)
            raise

    @contextmanager
    def sample(self) -> Iterator[None]:
        """Run one sample, and count it when it is complete."""
        self._busy = True
        self._whole = False
        yield
        self.samples += 1
        self._whole = True
        if time.monotonic() >= self._next:
            started = time.monotonic()
            self._try_to_write()
            ended = time.monotonic()
            # Writing may take at most 1 % of the time, however many tensors there are.
            pause = self._checkpoint.seconds if self._checkpoint else math.inf
            self._next = ended + (max(pause, 100 * (ended - started)) if pause else 0)
        self._busy = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _write(self) -> None:
        assert self._checkpoint is not None
        self._checkpoint.write(self.samples, self._snapshot())

    def _try_to_write(self) -> None:
        """Save a checkpoint; a failure is only a warning, since the run may not need it."""
        try:
            self._write()
        except CalibrationError as error:
            if not self._warned:
                message = f"No checkpoint can be written: {error}"
                warnings.warn(message, stacklevel=2)
            self._warned = True

    def _at_the_end(self) -> str:
        """Save all complete samples; return the message about them."""
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
        """Let an interruption wait for the end of the sample; a second one acts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: Any) -> None:
            if self._interrupted or not self._busy:
                raise KeyboardInterrupt
            self._interrupted = True

        # A signal that is ignored stays ignored: nohup and background jobs rely on it.
        before = {s: signal.getsignal(s) for s in SIGNALS}
        handled = [s for s, old in before.items() if old not in (signal.SIG_IGN, None)]
        for number in handled:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number in handled:
                signal.signal(number, before[number])
