"""Calibration samples from files, callables, iterables and data readers, one at a time.

A sample is what one run of the model takes: ``{input name: array}``. :func:`load_samples`
reads samples from disk or from a Python callable; :func:`as_samples` accepts whatever else
a caller may hold. Both check each sample against the model's inputs and convert nothing. A
silent cast would calibrate another network than the one that runs later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.data.batches import changes_count, hint_for, read_feeds
from quantcal.data.source import SampleSource
from quantcal.onnx._graph.inputs import Feed, InputSpec, check_feed
from quantcal.onnx._runtime.sample_callables import samples_of
from quantcal.onnx._runtime.sample_files import find_sample_files, read_sample

if TYPE_CHECKING:
    from quantcal.onnx._model.model import Model


class Samples:
    """Checked samples: an iterable of ``{input name: array}``, one alive at a time.

    Attributes
    ----------
    inputs : tuple of InputSpec
        What each sample is checked against.
    count : int or None
        The number of samples; None when it is not known before they are read.
    rewindable : bool
        Whether a second iteration starts again from the first sample.
    files : tuple of Path
        The files that are read, where they are known.
    """

    def __init__(
        self,
        start: Callable[[], Iterator[tuple[str, Any]]],
        inputs: Sequence[InputSpec],
        *,
        count: int | None = None,
        rewindable: bool = True,
        files: Sequence[Path] = (),
    ) -> None:
        self._start = start
        self.inputs = tuple(inputs)
        self.count = count
        self.rewindable = rewindable
        self.files = tuple(files)

    def __iter__(self) -> Iterator[Feed]:
        for index, (origin, feed) in enumerate(self._start()):
            where = f"sample {index}" + (f" ({origin})" if origin else "")
            yield check_feed(feed, self.inputs, where)

    def checked_against(self, inputs: Sequence[InputSpec]) -> Samples:
        """Return the same samples, checked against the inputs of another model."""
        return Samples(
            self._start, inputs, count=self.count, rewindable=self.rewindable
        )

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("The number of samples is not known before they are read.")
        return self.count


def load_samples(
    source: str | os.PathLike[str] | SampleSource, inputs: Model | Sequence[InputSpec]
) -> Samples:
    """Open calibration samples: a file, a folder, a callable, or images, WAV and texts.

    Parameters
    ----------
    source
        A ``.npz`` (one sample; its keys are the input names), a ``.npy`` (one sample
        of a model with one input), or a folder of either, in the order of names. Or
        ``"python:module:callable"``: the callable takes no arguments and returns an
        iterable of samples; the current directory is importable. Files of numpy lose the
        types bfloat16 and those below 16 bits; the model's type is taken for them. Or the
        result of a function of :mod:`quantcal.data`, which makes samples of other files.
    inputs
        What the samples are checked against: specifications, or a model (path, bytes or
        ModelProto), which has them.

    Returns
    -------
    Samples
        Nothing is read before it is iterated, then one sample at a time.

    Raises
    ------
    CalibrationError
        When the source cannot be read or holds no samples; while iterating, when a
        file is damaged or a sample does not fit the model.
    """
    specs = _as_specs(inputs)
    if isinstance(source, SampleSource):
        bound = source.bind(specs)
        return Samples(bound.start, specs, count=bound.count, files=source.files)
    text = os.fspath(source)
    if text.startswith("python:"):
        return Samples(samples_of(text, specs), specs)
    path = Path(text)
    try:
        files = sorted(find_sample_files(path, specs))
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
            yield str(file), read_sample(file, specs)

    return Samples(start, specs, count=len(files), files=files)


def as_samples(samples: object, inputs: Model | Sequence[InputSpec]) -> Samples:
    """Accept what callers hold: a path, Samples, a data reader, or any iterable of samples.

    Samples of torch and of Hugging Face's datasets have other forms than
    ``{input name: array}``; :func:`quantcal.data.batches.read_feeds` changes them.

    A list, or any other object whose ``iter`` starts afresh, can be read more than
    once; a generator cannot. An onnxruntime ``CalibrationDataReader`` can when it has a
    working ``rewind``.
    """
    specs = _as_specs(inputs)
    if isinstance(samples, (str, os.PathLike, SampleSource)):
        return load_samples(samples, specs)
    if isinstance(samples, Samples):
        return samples.checked_against(specs)
    if hasattr(samples, "get_next"):
        return _from_reader(samples, specs)
    if isinstance(samples, (Mapping, np.ndarray)) or not isinstance(samples, Iterable):
        raise CalibrationError(
            f"The samples are a {type(samples).__name__}; expected an iterable of "
            "{input name: array} (put a single sample into a list), an onnxruntime "
            f"CalibrationDataReader, or the path of saved samples.{hint_for(samples)}"
        )
    items = samples

    def start() -> Iterator[tuple[str, object]]:
        return (("", feed) for feed in read_feeds(items, specs))

    once = isinstance(samples, Iterator)
    count = None if changes_count(samples) else _length(samples)
    return Samples(start, specs, count=count, rewindable=not once)


def _as_specs(inputs: Model | Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    if isinstance(inputs, (list, tuple)):
        return tuple(inputs)
    from quantcal.onnx._model.model import load_model, model_inputs

    return model_inputs(load_model(inputs, weights=False).proto)


def _from_reader(reader: Any, inputs: Sequence[InputSpec]) -> Samples:
    passes = 0

    def start() -> Iterator[tuple[str, object]]:
        nonlocal passes
        if passes:
            reader.rewind()
        passes += 1
        return (("", feed) for feed in iter(reader.get_next, None))

    rewind = getattr(reader, "rewind", None)
    return Samples(start, inputs, count=_length(reader), rewindable=callable(rewind))


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None
