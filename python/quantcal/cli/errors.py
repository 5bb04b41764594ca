"""Errors that a user can correct, and the checks of outputs that raise them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import typer

from quantcal._io.files import INPUT, Used, check_target, same_target


class CommandError(Exception):
    """An error whose message a command prints as it is; it may have several lines."""


def check_outputs(
    outputs: Sequence[Path | None], inputs: Iterable[str | Path | None] = ()
) -> list[Used]:
    """Refuse outputs that cannot be written, or would replace what the command reads.

    Parameters
    ----------
    outputs
        None stands for an output that is not written.
    inputs
        Files that are read, and folders of samples.

    Returns
    -------
    What the command reads, for another check when it writes.

    Raises
    ------
    CalibrationError
        If one is not a regular file, its folder is missing, or it is an input.
    typer.BadParameter
        If two are the same file.
    """
    used = [Used(Path(source), INPUT) for source in inputs if source is not None]
    given = [output for output in outputs if output is not None]
    if any(output.exists() for output in given):
        used += _weights_of([each.path for each in used])
    for output in given:
        check_target(output, used)
    refuse_same(given)
    return used


def _weights_of(files: Iterable[Path]) -> list[Used]:
    """Return the models among some files, and the files with their weights."""
    models = [file for file in files if file.suffix.lower() == ".onnx"]
    if not models:
        return []
    from quantcal.onnx.files import RunFiles

    return list(RunFiles(None, *models))


def refuse_same(outputs: Sequence[Path]) -> None:
    """Refuse to write a file twice, under whatever names."""
    for one, other in combinations(outputs, 2):
        if same_target(one, other):
            also = "" if one == other else f", also as {one},"
            raise typer.BadParameter(f"{other} is to be written twice{also}.")
