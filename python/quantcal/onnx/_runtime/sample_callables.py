"""Samples from Python code that a text names: ``python:module:callable``."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from quantcal._core import CalibrationError
from quantcal.data.batches import read_feeds
from quantcal.data.source import SampleSource
from quantcal.onnx._graph.inputs import InputSpec


def load_callable(spec: str) -> Callable[..., Any]:
    """Import what ``"python:module:callable"`` names; the current directory is importable.

    Raises
    ------
    CalibrationError
        When it has another form, or there is no such module or callable.
    """
    parts = spec.split(":")
    if len(parts) != 3 or not all(parts):
        raise CalibrationError(f"{spec!r} is not of the form python:module:callable.")
    _, module_name, name = parts
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module runs: anything may happen
        reason = str(error) if isinstance(error, ImportError) else _describe(error)
        raise CalibrationError(
            f"Cannot import {module_name!r} of {spec!r}: {reason}"
        ) from error
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        raise CalibrationError(f"{module_name!r} has no callable {name!r} ({spec!r}).")
    return function


def samples_of(
    spec: str, inputs: Sequence[InputSpec]
) -> Callable[[], Iterator[tuple[str, object]]]:
    """Return what yields the samples of a callable, each with the text that named it.

    What it returns may have any form that the library takes from Python.

    Raises
    ------
    CalibrationError
        As :func:`load_callable`; while the samples are read, when the callable fails: with
        the line that did.
    """
    function = load_callable(spec)

    def start() -> Iterator[tuple[str, object]]:
        index = 0
        try:
            made = function()
            if not isinstance(made, Iterable):
                raise CalibrationError(
                    f"{spec!r} returned a {type(made).__name__}; expected an iterable "
                    "of {input name: array}."
                )
            for feed in _feeds(made, inputs):
                yield spec, feed
                index += 1
        except CalibrationError:
            raise
        except Exception as error:  # the user's code
            raise CalibrationError(
                f"sample {index} ({spec}) could not be made: {_describe(error)}"
            ) from error

    return start


def _feeds(made: Iterable[Any], inputs: Sequence[InputSpec]) -> Iterator[object]:
    if isinstance(made, SampleSource):
        return (feed for _, feed in made.bind(inputs).start())
    return read_feeds(made, inputs)


def _describe(error: Exception) -> str:
    """Return what went wrong in somebody else's code, and in which line of which file."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:  # says where by itself
        return text
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})"
