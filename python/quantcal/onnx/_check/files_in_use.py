"""The files that a run reads, which its outputs must not replace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal._io.files import INPUT, Used
from quantcal.onnx._graph.external_data import external_tensors, location_of
from quantcal.onnx._runtime.sample_files import KINDS

if TYPE_CHECKING:
    from quantcal.onnx._model.model import Model

_POLICIES = {".toml", ".json"}


class RunFiles:
    """The files that a run reads, found when first needed.

    Most runs write new files and never need them.

    Parameters
    ----------
    model : path, bytes or ModelProto, optional
        A path stands for the model file and its external data.
    sources : objects
        Samples, policies, histograms, tables and other models. Paths among them, and
        objects made from paths, count. A folder stands for the samples in it, a model for
        its external data too, and ``python:module:callable`` for the module in the current
        directory.
    """

    def __init__(self, model: Model | None, *sources: object) -> None:
        self._model = model
        self._sources = sources
        self._found: list[Used] | None = None

    def __iter__(self) -> Iterator[Used]:
        if self._found is None:
            self._found = [*_of_model(self._model), *_of_sources(self._sources)]
        return iter(self._found)


def _of_model(model: Model | None) -> Iterator[Used]:
    if not isinstance(model, (str, os.PathLike)):
        return
    path = Path(model)
    yield Used(path, "the model itself, which is never changed")
    for file in weight_files(path):
        yield Used(file, f"a file of the weights of {path}, which is never changed")


def weight_files(path: Path) -> list[Path]:
    """Return the files of a model's external data; none if it is not a model.

    Of a link, those beside it and beside its target, which need not exist.
    """
    from quantcal.onnx._model.optional import require

    require()
    import onnx

    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception:  # reported when the model is loaded
        return []
    locations = {location_of(tensor) for tensor in external_tensors(proto)}
    # If the model is a link, they are beside the link or beside its target.
    folders = dict.fromkeys((path.parent, Path(os.path.realpath(path)).parent))
    return [folder / name for name in sorted(locations) if name for folder in folders]


def _of_sources(sources: tuple[object, ...]) -> Iterator[Used]:
    for source in sources:
        for file in getattr(source, "files", ()):
            yield Used(Path(file), INPUT)
        if isinstance(source, (str, os.PathLike)):
            for file in _of_path(os.fspath(source)):
                yield Used(file, INPUT)


def _of_path(text: str) -> Iterator[Path]:
    if text.startswith("python:"):
        module = text.split(":")[1].replace(".", "/")
        yield from (Path(f"{module}.py"), Path(module, "__init__.py"))
        return
    path = Path(text)
    yield path
    if path.suffix.lower() == ".onnx":
        yield from weight_files(path)
    if path.is_dir():
        yield from (f for f in path.iterdir() if f.suffix.lower() in KINDS)


def policy_files(strategy: object) -> list[Path]:
    """Return the file of a policy that is given as a path (see ``Policy.of``)."""
    if isinstance(strategy, (str, os.PathLike)):
        path = Path(strategy)
        if path.suffix.lower() in _POLICIES:
            return [path]
    return []
