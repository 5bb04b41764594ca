"""What a run keeps in case it ends early: resumed, completed and removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import typer

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.cli.output.console import say_warning
from quantcal.onnx import Checkpoint


class FlagCheckpoint(Checkpoint):
    """A checkpoint of a command: its messages name the flag that resumes it."""

    def advice(self, file: Path) -> str:
        """Return how to continue with a file."""
        return f"--resume {file} continues after them"


def open_checkpoint(
    resume: Path | None, output: Path, settings: Mapping[str, object]
) -> tuple[Calibrator | None, Checkpoint]:
    """Return the histograms to resume, if any, and where this run keeps its own.

    `settings` are flags that a resumed run cannot have.
    """
    if resume is None:
        checkpoint = FlagCheckpoint(output)
        for file in checkpoint.found()[-1:]:
            say_warning(
                f"{file} is left from a run that ended early. --resume {file} would "
                "continue after its samples; this run observes all samples."
            )
        return None, checkpoint
    refuse(settings, "the histograms in --resume have their settings")
    return FlagCheckpoint.resume(resume, output)


def keep_all(
    calibrator: Calibrator,
    checkpoint: Checkpoint | None,
    save_stats: Path | None,
    option: str,
) -> None:
    """Keep the histograms of all samples when the output could not be written.

    `option` is that of the command which takes the file.
    """
    if checkpoint is None or checkpoint.complete is None or not len(calibrator):
        return
    if save_stats is not None and _saved(calibrator.save, save_stats):
        checkpoint.remove()
    elif _saved(partial(checkpoint.write, checkpoint.complete), calibrator):
        file = checkpoint.path(checkpoint.complete)
        say_warning(
            f"The histograms of all {checkpoint.complete} samples are kept in {file}; "
            f"{option} {file} does not run them again."
        )
    else:
        message = f"The last samples could not be kept. {checkpoint.message()}"
        say_warning(message.rstrip())


def _saved(save: Callable[[Any], None], what: Any) -> bool:
    """Return whether something can be saved. Another error is reported already."""
    try:
        save(what)
    except (CalibrationError, OSError):
        return False
    return True


def refuse(given: Mapping[str, object], reason: str) -> None:
    """Refuse flags that would have no effect."""
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(
                f"It has no effect: {reason}. Leave it out.", param_hint=f"'{name}'"
            )
