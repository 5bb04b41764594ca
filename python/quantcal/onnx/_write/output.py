"""Write the finished model: checked first, then moved into place in one step."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal._io.files import Used, check_target, is_text, writing
from quantcal._io.temporary import beside, sync, sync_folder
from quantcal.onnx._check.files_in_use import RunFiles
from quantcal.onnx._check.trial_run import check_written
from quantcal.onnx._graph.external_data import externalize_weights
from quantcal.onnx._graph.inputs import Sample
from quantcal.onnx._observe.checkpoint import is_checkpoint

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._model.model import Model

# A protobuf file holds at most 2 GiB; the weights of larger models go to a second file.
_MAX_FILE = 2**31 - 2**20


@dataclass(frozen=True, slots=True)
class Output:
    """Where a model is written.

    Attributes
    ----------
    path : Path
        The path as given.
    used : iterable of Used
        Files of the run that must not be replaced.
    """

    path: Path
    used: Iterable[Used]

    def check(self) -> Path:
        """Return the path to write: for a link, its target.

        Raises
        ------
        CalibrationError
            If it cannot be written, or the run uses it.
        """
        return check_target(self.path, self.used)

    def check_both(self) -> tuple[Path, Path]:
        """Return the paths of the model and of the second file, for weights of large models.

        Raises
        ------
        CalibrationError
            If one of them cannot be written, or the run uses it.
        """
        target = self.check()
        if not is_text(target):
            raise CalibrationError(
                f"The path of the output {self.path} is not UTF-8, which onnx and onnxruntime "
                "require. Give another path."
            )
        weights = weights_beside(target)
        check_target(weights, self.used)
        if weights.is_symlink():
            raise CalibrationError(
                f"{weights} is a link. Weights of an output above 2 GiB are written there, and "
                "onnxruntime reads no weights through a link. Remove it, or give another path."
            )
        return target, weights


def weights_beside(path: Path) -> Path:
    """Return the file for the weights of a written model above 2 GiB."""
    return path.with_name(f"{path.name}.data")


def check_output(
    model: Model, output: str | os.PathLike[str], *sources: object
) -> Output:
    """Refuse an output for a model that cannot be written, before any work is done.

    Parameters
    ----------
    model : path, bytes or ModelProto
    output : path
    sources : objects
        Everything else that the run reads: see :class:`RunFiles`.

    Raises
    ------
    CalibrationError
        As :func:`check_file`, for the model and for its weights.
    """
    checked = check_file(output, RunFiles(model, *sources))
    checked.check_both()
    return checked


def check_file(output: str | os.PathLike[str], used: Iterable[Used]) -> Output:
    """Refuse an output that cannot be written, before any work is done.

    Parameters
    ----------
    output : path
    used : iterable of Used
        The files that the run reads.

    Raises
    ------
    CalibrationError
        If it is no regular file, or its folder is missing or not writable. Also if the run
        uses the file, under any name.
    """
    target = Path(output)
    with writing(target):
        if target.is_dir():
            raise CalibrationError(
                f"The output {target} is a folder. Give a file's path."
            )
        real = Path(os.path.realpath(target))
        if not real.parent.is_dir():
            raise CalibrationError(
                f"The folder {real.parent} of the output is missing."
            )
        if not os.access(real.parent, os.W_OK):
            raise CalibrationError(f"The folder {real.parent} cannot be written to.")
    if is_checkpoint(target):
        raise CalibrationError(
            f"The output {target} has the name of a checkpoint, which a run writes and "
            "removes. Give another path."
        )
    checked = Output(target, used)
    checked.check()
    return checked


def save(
    proto: onnx.ModelProto, output: Output, label: str, sample: Sample | None
) -> int:
    """Write a temporary file beside the target, check it, then replace the target.

    Returns the size in bytes, weights in a second file included.
    """
    import onnx

    target, weights = output.check_both()
    external = proto.ByteSize() > _MAX_FILE
    with ExitStack() as stack:
        with writing(output.path):
            folder = stack.enter_context(beside(target)).folder()
            made = folder / target.name
            if external:
                externalize_weights(proto, folder, weights.name)
            onnx.save_model(proto, str(made))
        check_written(made, f"the quantized copy of {label}", sample)
        with writing(output.path):
            size = made.stat().st_size
            sync(made)
            if external:
                size += (folder / weights.name).stat().st_size
                sync(folder / weights.name)
            target, weights = output.check_both()
            if external:
                _replace_both(folder, made, target, weights)
            else:
                made.replace(target)
            sync_folder(target.parent)
    return size


def _replace_both(folder: Path, made: Path, target: Path, weights: Path) -> None:
    """Move a model and its weights into place: both, or neither after an error."""
    old = folder / "old weights"
    if weights.exists():
        try:
            old.hardlink_to(weights)
        except OSError:  # a file system without hard links
            weights.replace(old)
    try:
        (folder / weights.name).replace(weights)
        made.replace(target)
    except BaseException:
        if old.exists():
            old.replace(weights)
        else:
            weights.unlink(missing_ok=True)
        raise
