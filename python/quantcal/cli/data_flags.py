"""The flags that say how samples are made of images, WAV files and texts.

A command that runs samples has `@reads_data` and a parameter `data`. The command line then
shows these flags, and `data.source` makes samples of the path and of the flags that were
given.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import wraps
from typing import Annotated, Any

import typer

from quantcal.cli.output.console import saying_warnings_at_once
from quantcal.data.option_names import COLORS, FITS, FLAGS, LAYOUTS

PANEL = "Images, WAV files and texts"
_PARAMETER = "data"
_MAX_SAMPLES = "max_samples"

_READERS = {
    "images": ["size", "resize", "fit", "mean", "std", "divide_by", "layout", "color"],
    "wav": ["sample_rate", "channels", "length"],
    "texts": ["tokenizer", "length"],
}
"""Reader → its options, without those that all have."""

_SHARED = (_MAX_SAMPLES, "constants")
_DECIDING = {"sample_rate": "wav", "tokenizer": "texts"}


def _words(name: str, words: Any) -> Any:
    return Enum(name, {word: word for word in words}, type=str)


_HELP: dict[str, tuple[Any, str, str, str]] = {
    "size": (
        str,
        "SIDE",
        "what the model fixes",
        "Side of the square images, or HEIGHT,WIDTH.",
    ),
    "mean": (
        str,
        "NUMBERS",
        "0",
        "What is subtracted from pixels of 0 to 1: one number, or one for each channel.",
    ),
    "std": (str, "NUMBERS", "1", "What they are divided by then."),
    "layout": (
        _words("Layout", LAYOUTS),
        "|".join(LAYOUTS),
        "what the model's shape shows",
        "Where the channels are.",
    ),
    "color": (
        _words("Color", COLORS),
        "|".join(COLORS),
        "by the number of channels",
        "Order of the channels; models that were trained with OpenCV take bgr.",
    ),
    "fit": (
        _words("Fit", FITS),
        "|".join(FITS),
        "crop",
        "Scale the shorter side and cut out the middle, change the proportions, or fill "
        "the rest with gray.",
    ),
    "resize": (int, "SIDE", "the size", "The shorter side before the crop."),
    "divide_by": (
        float,
        "NUMBER",
        "255",
        "What pixels are divided by first; 1 leaves them from 0 to 255.",
    ),
    "sample_rate": (
        int,
        "HZ",
        "none",
        "WAV files: the rate for which the model was trained. Others are converted to it.",
    ),
    "channels": (
        int,
        "N",
        "what the model fixes",
        "WAV files: 1 for mono, 2 for stereo.",
    ),
    "tokenizer": (
        str,
        "FILE",
        "none",
        "A file with one text a line: the tokenizer.json of the model.",
    ),
    "length": (
        int,
        "N",
        "what the model fixes",
        "Tokens at which a text is cut, or frames of a piece of a WAV file.",
    ),
    "max_samples": (int, "N", "all", "Take N samples, evenly spread over the files."),
    "constants": (
        list[str],
        "NAME=NUMBER",
        "none",
        "A number that fills another input of the model. Repeat it for several.",
    ),
}


class DataFlags:
    """The flags of data as they were given; None for those that were not."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = {name: value for name, value in raw.items() if value is not None}

    def source(self, path: str | None) -> Any:
        """Return what the library takes as samples: the path itself without any flag.

        Raises
        ------
        typer.BadParameter
            If flags do not go together, or have no effect on such samples.
        CalibrationError
            If nothing can be read at the path.
        """
        if not self._raw:
            return path
        kind = self._kind()
        flag = FLAGS[next(iter(self._raw))]
        if path is None or path.startswith("python:"):
            why = "no sample runs" if path is None else "code makes the samples"
            raise _bad(f"It has no effect: {why}. Leave it out.", flag)
        if kind is None:
            raise _bad(
                "It is for images (give --image-size too), WAV files (--sample-rate) and "
                "texts (--tokenizer).",
                flag,
            )
        for name in self._raw:
            if name not in (*_READERS[kind], *_SHARED):
                raise _bad(f"It is not for {kind}. Leave it out.", FLAGS[name])
        values = {name: _value(name, raw) for name, raw in self._raw.items()}
        from quantcal import data

        return getattr(data, kind)(path, **values)

    def _kind(self) -> str | None:
        for name, kind in _DECIDING.items():
            if name in self._raw:
                return kind
        images = any(name in _READERS["images"] for name in self._raw)
        return "images" if images else None


CLASS_FOLDERS = "class-folders"
"""The name of the metric that takes the folders of images as their classes."""


def metric_for(metric: str | None, source: object) -> Any:
    """Return a metric as the library takes it: its name, or whether the class is right.

    Raises
    ------
    typer.BadParameter
        If the samples are no images.
    """
    if metric != CLASS_FOLDERS:
        return metric
    from quantcal.data import ImageSource

    if not isinstance(source, ImageSource):
        raise _bad(
            f"{CLASS_FOLDERS} is for images in a folder for each class, with "
            "--image-size. Give python:MODULE:CALLABLE for other samples.",
            "--metric",
        )
    return source.is_right


def reads_data(
    *, max_samples: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of data in place of its parameter `data`.

    `max_samples` says whether the flag of that name is among them.
    """
    names = [name for name in _HELP if max_samples or name != _MAX_SAMPLES]

    def change(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == _PARAMETER:
                parameters += map(_parameter, names)
            else:
                parameters.append(parameter)

        @wraps(command)
        def wrapper(**arguments: Any) -> None:
            raw = {name: arguments.pop(name) for name in names}
            with saying_warnings_at_once():
                command(**arguments, **{_PARAMETER: DataFlags(raw)})

        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return change


def _parameter(name: str) -> inspect.Parameter:
    kind, metavar, shown, text = _HELP[name]
    option = typer.Option(
        FLAGS[name],
        metavar=metavar,
        show_default=shown,
        rich_help_panel=PANEL,
        help=text,
    )
    annotation: Any = Annotated[kind | None, option]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=annotation,
    )


def _value(name: str, raw: Any) -> Any:
    """Return the value of a flag as the library takes it."""
    if name == "size":
        return _numbers(name, raw.lower().replace("x", ","), int)
    if name in ("mean", "std"):
        return _numbers(name, raw, float)
    if name == "constants":
        return dict(_constant(text) for text in raw)
    if name == "tokenizer":
        return os.fspath(raw)
    return raw.value if isinstance(raw, Enum) else raw


def _numbers(name: str, text: str, kind: Callable[[str], float]) -> Any:
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        example = "224 or 480,640" if kind is int else "0.485,0.456,0.406"
        raise _bad(f"{text!r} is not {example}.", FLAGS[name]) from None
    return found[0] if len(found) == 1 else found


def _constant(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    for kind in (int, float):
        with suppress(ValueError):
            if name:
                return name, kind(number)
    raise _bad(f"{text!r} is not NAME=NUMBER, such as sr=16000.", FLAGS["constants"])


def _bad(message: str, flag: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=f"'{flag}'")
