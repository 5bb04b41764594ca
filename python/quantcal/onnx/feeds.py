"""Calibration samples from files, callables, iterables and data readers, one at a time.

A *feed* is what one run of the model takes: ``{input name: array}``. :func:`load_feeds`
reads them from disk or from a Python callable; :func:`as_feeds` accepts whatever else a
caller may hold. Both check each feed against the model's inputs and convert nothing: a
silent cast would calibrate another network than the one that runs later.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal import CalibrationError

if TYPE_CHECKING:
    from quantcal.onnx.model import Model

Feed = dict[str, Any]

_CALLABLE = (
    "Images and other files need code of yours that prepares them: "
    "python:module:callable, which returns or yields {input name: array}."
)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model says of one of its inputs.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype or None
        None when the input is no tensor of numbers; it is not checked then.
    shape : tuple of (int or None), or None
        None for a dimension of any size, and for an unknown rank.
    required : bool
        False for an input with a default value in the model.
    """

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...] | None
    required: bool = True

    def __str__(self) -> str:
        shape = "?" if self.shape is None else list(self.shape)
        return f"{self.name!r} ({self.dtype} {shape})".replace("None", "any")


class Feeds:
    """Checked samples: an iterable of ``{input name: array}``, one alive at a time.

    Attributes
    ----------
    inputs : tuple of InputSpec
        What each feed is checked against.
    count : int or None
        The number of samples; None when it is not known before they are read.
    rewindable : bool
        Whether a second iteration starts again from the first sample.
    """

    def __init__(
        self,
        start: Callable[[], Iterator[tuple[str, Any]]],
        inputs: Sequence[InputSpec],
        *,
        count: int | None = None,
        rewindable: bool = True,
    ) -> None:
        self._start = start
        self.inputs = tuple(inputs)
        self.count = count
        self.rewindable = rewindable

    def __iter__(self) -> Iterator[Feed]:
        for index, (origin, feed) in enumerate(self._start()):
            where = f"sample {index}" + (f" ({origin})" if origin else "")
            yield check_feed(feed, self.inputs, where)

    def checked_against(self, inputs: Sequence[InputSpec]) -> Feeds:
        """Return the same samples, checked against the inputs of another model."""
        return Feeds(self._start, inputs, count=self.count, rewindable=self.rewindable)

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("The number of samples is not known before they are read.")
        return self.count


def check_feed(feed: object, inputs: Sequence[InputSpec], where: str) -> Feed:
    """Return ``feed`` as a dict of arrays when the model can take it as it is.

    Parameters
    ----------
    feed : mapping of str to array
    inputs : sequence of InputSpec
    where : str
        Names the sample in errors, such as ``"sample 3 (a/0003.npz)"``.

    Raises
    ------
    CalibrationError
        For a missing or unknown input, and for a wrong dtype, rank or fixed dimension.
    """
    if not isinstance(feed, Mapping):
        raise CalibrationError(
            f"{where} is a {type(feed).__name__}; expected a mapping "
            "{input name: array}."
        )
    known = {spec.name for spec in inputs}
    listed = ", ".join(str(spec) for spec in inputs)
    missing = [s.name for s in inputs if s.required and s.name not in feed]
    if missing:
        raise CalibrationError(
            f"{where} has no input {', '.join(map(repr, missing))}. "
            f"It holds {sorted(map(str, feed))}; the model takes {listed}."
        )
    unknown = [name for name in feed if name not in known]
    if unknown:
        raise CalibrationError(
            f"{where} holds {', '.join(map(repr, unknown))}, which is no input of the "
            f"model. The model takes {listed}."
        )
    specs = {spec.name: spec for spec in inputs}
    return {name: _check_array(feed[name], specs[name], where) for name in feed}


def _check_array(array: Any, spec: InputSpec, where: str) -> Any:
    if spec.dtype is None:
        return array
    if not isinstance(array, (np.ndarray, np.generic)):
        raise CalibrationError(
            f"{where}: input {spec.name!r} is a {type(array).__name__}; "
            f"expected a numpy array of {spec.dtype}."
        )
    array = np.asarray(array)
    text = spec.dtype == np.dtype(object) and array.dtype.kind in "OUS"
    if array.dtype != spec.dtype and not text:
        raise CalibrationError(
            f"{where}: input {spec.name!r} has dtype {array.dtype}; the model takes "
            f"{spec.dtype}. Convert it before: array.astype({str(spec.dtype)!r})."
        )
    if spec.shape is None:
        return array
    want = "[" + ", ".join("any" if d is None else str(d) for d in spec.shape) + "]"
    got = list(array.shape)
    if len(got) != len(spec.shape):
        raise CalibrationError(
            f"{where}: input {spec.name!r} has {len(got)} dimensions, shape {got}; "
            f"the model takes {len(spec.shape)}, shape {want}."
        )
    if any(w is not None and w != g for w, g in zip(spec.shape, got, strict=True)):
        raise CalibrationError(
            f"{where}: input {spec.name!r} has shape {got}; the model takes {want}."
        )
    return array


def load_feeds(
    source: str | os.PathLike[str], inputs: Model | Sequence[InputSpec]
) -> Feeds:
    """Open calibration samples: a file, a folder of files, or a Python callable.

    Parameters
    ----------
    source : str or path
        A ``.npz`` (one sample; its keys are the input names), a ``.npy`` (one sample
        of a model with one input), a folder of either, taken in the order of their
        names, or ``"python:module:callable"``: the callable takes no arguments and
        returns an iterable of feeds; the current directory is importable.
    inputs : sequence of InputSpec, or a model
        What the samples are checked against; a model (path, bytes or ModelProto) is
        asked for its inputs.

    Returns
    -------
    Feeds
        Nothing is read before it is iterated, then one sample at a time.

    Raises
    ------
    CalibrationError
        When the source cannot be read or holds no samples; while iterating, when a
        file is damaged or a sample does not fit the model.
    """
    specs = _as_specs(inputs)
    text = os.fspath(source)
    if text.startswith("python:"):
        return _from_callable(text, specs)
    path = Path(text)
    try:
        files = sorted(_sample_files(path))
    except OSError as error:
        raise CalibrationError(
            f"Cannot read {path}: {error.strerror or error}."
        ) from error
    npy = [file for file in files if file.suffix.lower() == ".npy"]
    if npy and len(npy) < len(files):
        raise CalibrationError(
            f"{path} holds both .npz and .npy files. Keep one kind in a folder."
        )
    if npy and len(specs) != 1:
        raise CalibrationError(
            f"{npy[0]} is a .npy file, but the model has {len(specs)} inputs: "
            f"{', '.join(map(str, specs))}. Write .npz files with these names as keys."
        )

    def start() -> Iterator[tuple[str, Feed]]:
        for file in files:
            yield str(file), _read(file, specs)

    return Feeds(start, specs, count=len(files))


def as_feeds(reader: object, inputs: Model | Sequence[InputSpec]) -> Feeds:
    """Accept what callers hold: a path, Feeds, a data reader, or any iterable of feeds.

    A list, or any other object whose ``iter`` starts afresh, can be read more than
    once; a generator cannot. An onnxruntime ``CalibrationDataReader`` can when it has a
    working ``rewind``.
    """
    specs = _as_specs(inputs)
    if isinstance(reader, (str, os.PathLike)):
        return load_feeds(reader, specs)
    if isinstance(reader, Feeds):
        return reader.checked_against(specs)
    if hasattr(reader, "get_next"):
        return _from_reader(reader, specs)
    if isinstance(reader, (Mapping, np.ndarray)) or not isinstance(reader, Iterable):
        raise CalibrationError(
            f"The reader is a {type(reader).__name__}; expected an iterable of "
            "{input name: array} (put a single sample into a list), an onnxruntime "
            "CalibrationDataReader, or the path of saved samples."
        )
    items = reader

    def start() -> Iterator[tuple[str, object]]:
        return (("", feed) for feed in items)

    once = isinstance(reader, Iterator)
    return Feeds(start, specs, count=_length(reader), rewindable=not once)


def _as_specs(inputs: Model | Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    if isinstance(inputs, (list, tuple)):
        return tuple(inputs)
    from quantcal.onnx.model import load_model, model_inputs

    return model_inputs(load_model(inputs, weights=False).proto)


def _sample_files(path: Path) -> list[Path]:
    kinds = {".npz", ".npy"}
    if path.is_dir():
        files = [p for p in path.iterdir() if p.is_file() and p.name[0] != "."]
        samples = [p for p in files if p.suffix.lower() in kinds]
        if not samples:
            raise CalibrationError(
                f"{path} holds no .npz or .npy file ({len(files)} other files). "
                f"{_CALLABLE}"
            )
        return samples
    if not path.exists():
        module = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", str(path))
        hint = f" Is python:{path} meant?" if module else ""
        raise CalibrationError(
            f"{path} does not exist.{hint} Give a .npz or .npy file, a folder of them, "
            "or python:module:callable."
        )
    if path.suffix.lower() == ".qcal":
        raise CalibrationError(
            f"{path} holds histograms, not samples. Give it by --from, or "
            "calibrator=quantcal.load(path)."
        )
    if path.suffix.lower() not in kinds:
        raise CalibrationError(f"{path} is neither a .npz nor a .npy file. {_CALLABLE}")
    return [path]


def _read(file: Path, specs: Sequence[InputSpec]) -> Feed:
    try:
        # Opened here, because numpy forgets to close a damaged .npz.
        with file.open("rb") as opened:
            if opened.read(2) not in (b"PK", b"\x93N"):  # else numpy speaks of pickles
                raise ValueError("the content is not what numpy.save or savez writes")
            opened.seek(0)
            data = np.load(opened, allow_pickle=False)
            if isinstance(data, np.ndarray):
                return {specs[0].name: data}
            return {name: data[name] for name in data.files}
    except Exception as error:  # zip, zlib, tokenizer, OS: whatever the damage hits
        raise CalibrationError(f"Cannot read {file}: {error}") from error


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
        told = str(error) if isinstance(error, ImportError) else _told(error)
        raise CalibrationError(
            f"Cannot import {module_name!r} of {spec!r}: {told}"
        ) from error
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        raise CalibrationError(f"{module_name!r} has no callable {name!r} ({spec!r}).")
    return function


def _from_callable(spec: str, inputs: Sequence[InputSpec]) -> Feeds:
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
            for feed in made:
                yield spec, feed
                index += 1
        except CalibrationError:
            raise
        except Exception as error:  # the user's code
            raise CalibrationError(
                f"sample {index} ({spec}) could not be made: {_told(error)}"
            ) from error

    return Feeds(start, inputs)


def _told(error: Exception) -> str:
    """Return what went wrong in somebody else's code, and in which line of which file."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:  # says where by itself
        return text
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})"


def _from_reader(reader: Any, inputs: Sequence[InputSpec]) -> Feeds:
    passes = 0

    def start() -> Iterator[tuple[str, object]]:
        nonlocal passes
        if passes:
            reader.rewind()
        passes += 1
        return (("", feed) for feed in iter(reader.get_next, None))

    rewind = getattr(reader, "rewind", None)
    return Feeds(start, inputs, count=_length(reader), rewindable=callable(rewind))


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None
