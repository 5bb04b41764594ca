"""Samples in .npz and .npy files: which there are, and reading one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantcal._core import CalibrationError
from quantcal._io.file_kinds import kind_of
from quantcal.data.inputs import describe_inputs
from quantcal.data.suggestions import describe_path, unfit
from quantcal.onnx._graph.inputs import Feed, InputSpec

KINDS = {".npz", ".npy"}
"""The endings of files that hold samples."""

_CALLABLE = (
    "Other files need code of yours that prepares them: python:module:callable, which "
    "returns or yields {input name: array}."
)


def find_sample_files(path: Path, specs: Sequence[InputSpec]) -> list[Path]:
    """Return a file, or the files of a folder, that hold samples.

    Raises
    ------
    CalibrationError
        When there is none; says what the model wants, and the line that would give it.
    """
    if path.is_dir():
        files = [p for p in path.iterdir() if p.is_file() and p.name[0] != "."]
        samples = [p for p in files if p.suffix.lower() in KINDS]
        if not samples:
            below = [p for kind in KINDS for p in path.glob(f"*/**/*{kind}")]
            if below:
                raise CalibrationError(
                    f"{path} holds no .npz or .npy file itself. Give a folder below it that "
                    f"does, such as {min(below).parent}."
                )
            held = describe_path(path)
            instead = f", but {held}" if held else ": it is empty"
            fault = f"{path} holds no .npz or .npy file{instead}."
            raise unfit(path, specs, fault, _CALLABLE)
        return samples
    if not path.exists():
        module = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", str(path))
        hint = f" Is python:{path} meant?" if module else ""
        raise CalibrationError(
            f"{path} does not exist.{hint} Give a .npz or .npy file, a folder of them, "
            "or python:module:callable; or a folder of images, of WAV files, or a file of "
            f"texts. The model wants {describe_inputs(specs)}."
        )
    if path.suffix.lower() == ".qcal":
        raise CalibrationError(
            f"{path} holds histograms, not samples. Give it by --from, or "
            "calibrator=quantcal.load(path)."
        )
    if path.suffix.lower() not in KINDS:
        fault = f"{path} is neither a .npz nor a .npy file."
        raise unfit(path, specs, fault, _CALLABLE)
    return [path]


def read_sample(file: Path, specs: Sequence[InputSpec]) -> Feed:
    """Read one file; the array of a .npy is the first input."""
    try:
        # Opened here, because numpy forgets to close a damaged .npz.
        with file.open("rb") as opened:
            if opened.read(2) not in (b"PK", b"\x93N"):  # else numpy speaks of pickles
                raise CalibrationError(_not_samples(file))
            opened.seek(0)
            data = np.load(opened, allow_pickle=False)
            if isinstance(data, np.ndarray):
                return {specs[0].name: data}
            for name in data.files:
                if data.files.count(name) > 1:  # numpy would read one of them
                    raise CalibrationError(
                        f'Cannot read {file}: the array "{name}" occurs twice. Save the '
                        "sample again, with one array of each name."
                    )
            arrays = {name: data[name] for name in data.files}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise CalibrationError(_not_samples(file))  # another archive's files
            return arrays
    except CalibrationError:
        raise
    except Exception as error:  # zip, zlib, tokenizer, OS: whatever the damage hits
        if "f1'" in str(error):
            raise CalibrationError(
                f"{file} holds float8_e5m2, which numpy writes but cannot read. Give such "
                f"samples from Python. {_CALLABLE}"
            ) from error
        kind = kind_of(file)
        if kind is not None and kind.wrapped:
            raise CalibrationError(_not_samples(file)) from error
        raise CalibrationError(f"Cannot read {file}: {error}") from error


def _not_samples(file: Path) -> str:
    """Say what a file is instead, where that can be seen."""
    kind = kind_of(file)
    if kind is not None and kind.wrapped:
        return f"{file} is {kind.what}. {kind.remedy}"
    found = "" if kind is None else f", but {kind.what}"
    return f"Cannot read {file}: the content is not what numpy.save or savez writes{found}."
