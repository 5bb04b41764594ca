"""Which line would read a user's data, by what is there and what the model wants."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quantcal._core import CalibrationError
from quantcal.data.faults import Suggestion, UnfitDataError
from quantcal.data.folders import (
    IMAGES,
    TEXTS,
    WAVES,
    describe_files,
    largest_kind,
    list_files,
)
from quantcal.data.image_plan import find_layout, find_size, is_image
from quantcal.data.inputs import Input, describe_inputs, is_float
from quantcal.data.text_roles import is_text
from quantcal.data.wav_file import read_header
from quantcal.data.wav_plan import is_audio

# Of ImageNet, as torchvision's models have them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AUDIO = re.compile(r"audio|wav|speech|sound|pcm|signal", re.IGNORECASE)
_SIDE, _RATE, _TOKENS = 224, 16000, 128


def unfit(path: Path, inputs: Sequence[Input], fault: str, advice: str) -> Exception:
    """Return the error for a path without samples, with the line that would read it.

    Parameters
    ----------
    path
        A folder, a file, or nothing that exists.
    inputs
        The model's.
    fault
        A sentence that says what is wrong with the path.
    advice
        A sentence for models and files that no reader knows.
    """
    files = _files(path)
    kind = largest_kind(files)
    fault = f"{fault} The model wants {describe_inputs(inputs) or 'no input'}."
    if kind is not None:
        suggestion = _MAKERS[kind](str(path), files, inputs)
        if suggestion is not None:
            return UnfitDataError(f"{fault} This reads it:", suggestion)
    for kind, (example, sentence) in _EXAMPLES.items():
        suggestion = _MAKERS[kind](example, [], inputs)
        if suggestion is not None and (kind is not WAVES or _named_audio(inputs)):
            return UnfitDataError(f"{fault} {sentence}:", suggestion)
    return CalibrationError(f"{fault} {advice}")


def describe_path(path: Path) -> str:
    """Return what is in a folder, as a part of a sentence."""
    return describe_files(_files(path))


def save_line(inputs: Sequence[Input]) -> str:
    """Return the line that saves a sample with the model's names."""
    names = [spec.name for spec in inputs if spec.required]
    if all(name.isidentifier() for name in names):
        arrays = ", ".join(f"{name}=…" for name in names)
    else:
        arrays = f"**{{{', '.join(f'{name!r}: …' for name in names)}}}"
    return f'np.savez("0.npz", {arrays})'


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return list_files(path)
    return [path] if path.is_file() else []


def _of_images(path: str, _: list[Path], inputs: Sequence[Input]) -> Suggestion | None:
    fitting, others = _split(inputs, is_image)
    if fitting is None:
        return None
    layout = find_layout(fitting) or "nchw"
    height, width = find_size(fitting, layout)
    height, width = height or width or _SIDE, width or height or _SIDE
    options: dict[str, Any] = {"size": height if height == width else (height, width)}
    remark = ""
    if is_float(fitting):
        options |= {"mean": _MEAN, "std": _STD}
        remark = (
            "Mean and std are those of ImageNet: give those of the model's training."
        )
        channels = (fitting.shape or ())[-3 if layout == "nchw" else -1]
        if channels not in (None, 3):
            options |= {"mean": 0.5, "std": 0.5}
            remark = "Mean and std are examples: give those of the model's training."
    options["layout"] = layout
    return Suggestion("images", path, options | _constants(others), remark)


def _of_waves(
    path: str, files: list[Path], inputs: Sequence[Input]
) -> Suggestion | None:
    fitting, others = _split(inputs, is_audio)
    if fitting is None:
        return None
    rate = _RATE
    for file in files:
        if file.suffix.lower() in WAVES:
            try:
                rate = read_header(file).rate
            except CalibrationError:
                continue
            break
    options = {"sample_rate": rate, **_constants(others)}
    remark = "Give the sample rate of the model's training: files are converted to it."
    return Suggestion("wav", path, options, remark)


def _of_texts(
    path: str, files: list[Path], inputs: Sequence[Input]
) -> Suggestion | None:
    if not is_text(inputs):
        return None
    if files and files[0] != Path(path):  # a folder: the first of its texts
        path = str(next(file for file in files if file.suffix.lower() in TEXTS))
    beside = Path(path).parent / "tokenizer.json"
    tokenizer = str(beside) if beside.is_file() else "tokenizer.json"
    options: dict[str, Any] = {"tokenizer": tokenizer}
    if all((spec.shape or (None, None))[-1] is None for spec in inputs):
        options["length"] = _TOKENS
    return Suggestion("texts", path, options)


_MAKERS: dict[
    frozenset[str], Callable[[str, list[Path], Sequence[Input]], Suggestion | None]
] = {TEXTS: _of_texts, IMAGES: _of_images, WAVES: _of_waves}

_EXAMPLES = {
    TEXTS: ("texts.txt", "This reads a file with one text a line"),
    IMAGES: ("photos/", "This reads a folder of images"),
    WAVES: ("audio/", "This reads a folder of WAV files"),
}


def _named_audio(inputs: Sequence[Input]) -> bool:
    """Return whether a name speaks of audio; a table of numbers has the same shape."""
    return any(_AUDIO.search(spec.name) for spec in inputs if spec.required)


def _split(
    inputs: Sequence[Input], fits: Callable[[Input], bool]
) -> tuple[Input | None, list[Input]]:
    """Return the only input that fits, or None, and the others that have no default."""
    wanted = [spec for spec in inputs if spec.required]
    found = [spec for spec in wanted if fits(spec)]
    if len(found) != 1:
        return None, wanted
    return found[0], [spec for spec in wanted if spec is not found[0]]


def _constants(others: Sequence[Input]) -> dict[str, Any]:
    return {"constants": {spec.name: 0 for spec in others}} if others else {}
