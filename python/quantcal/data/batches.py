"""Samples in the forms of other libraries: batches of a DataLoader, rows of a dataset.

Known by their members, so that no library is imported for it: torch's DataLoader by
``dataset`` and ``batch_size``, Hugging Face's datasets by ``features`` and ``column_names``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quantcal._arrays import as_numpy
from quantcal._core import CalibrationError
from quantcal._text import plural
from quantcal.data.inputs import Input, describe_inputs


def is_loader(source: object) -> bool:
    """Return whether this is a DataLoader: it makes batches, perhaps with labels."""
    return hasattr(source, "dataset") and hasattr(source, "batch_size")


def is_dataset(source: object) -> bool:
    """Return whether this is a dataset of rows without an axis of batches."""
    return hasattr(source, "features") and hasattr(source, "column_names")


def changes_count(source: object) -> bool:
    """Return whether there may be more or fewer samples than the source has items."""
    return is_loader(source) or is_dataset(source)


def hint_for(source: object) -> str:
    """Return what to give instead of a thing that has no samples; empty if not known."""
    if isinstance(source, Mapping) and source and all(map(is_dataset, source.values())):
        return (
            f" These are several datasets: give one, such as [{next(iter(source))!r}]."
        )
    bases = type(source).__mro__
    if any(base.__module__.startswith("torch.utils.data") for base in bases):
        return " Of a dataset of torch, give torch.utils.data.DataLoader(dataset)."
    return ""


def read_feeds(source: Iterable[Any], inputs: Sequence[Input]) -> Iterator[object]:
    """Yield samples as mappings of arrays where their form is known, else as they are.

    A tensor is the only input. A tuple has the inputs in the order of the model. Tensors
    become arrays, from whatever device.

    Warns
    -----
    UserWarning
        Once for what is left out: labels behind the inputs of a tuple, entries of a
        DataLoader's mapping that the model does not know, rows behind the last whole batch.
    """
    said: set[str] = set()
    for feed, left_out in _feeds(source, inputs):
        if left_out and left_out not in said:
            said.add(left_out)
            warnings.warn(f"Left out: {left_out}.", stacklevel=2)
        if feed is not None:
            yield feed


def _feeds(
    source: Iterable[Any], inputs: Sequence[Input]
) -> Iterator[tuple[object, str]]:
    """Yield samples, each with a word about what was left out."""
    if is_dataset(source):
        yield from _rows(source, inputs)
    elif is_loader(source):
        yield from _batches(source, inputs)
    else:
        yield from (_as_feed(item, inputs) for item in source)


def _as_feed(item: Any, inputs: Sequence[Input]) -> tuple[object, str]:
    wanted = [spec for spec in inputs if spec.required]
    left_out = 0
    if isinstance(item, (tuple, list)) and item:
        if isinstance(item[0], Mapping):
            left_out = len(item) - 1
            item = item[0]
        elif 0 < len(wanted) <= len(item) and _is_array(item[0]):
            left_out = len(item) - len(wanted)
            item = dict(zip((spec.name for spec in wanted), item, strict=False))
    elif _is_array(item) and len(wanted) == 1:
        item = {wanted[0].name: item}
    if isinstance(item, Mapping):
        item = {name: _converted(value) for name, value in item.items()}
    what = f"{plural(left_out, 'part')} of each sample behind the model's inputs, as labels"
    return item, what if left_out else ""


def _batches(
    loader: Iterable[Any], inputs: Sequence[Input]
) -> Iterator[tuple[object, str]]:
    """Yield batches, split where the model fixes smaller ones, with its inputs only."""
    known = {spec.name for spec in inputs}
    batch = fixed_batch(inputs)
    for item in loader:
        feed, left_out = _as_feed(item, inputs)
        if not isinstance(feed, Mapping) or not known & set(feed):
            yield feed, left_out  # the check says what is wrong with it
            continue
        more = sorted(str(name) for name in feed if name not in known)
        if more:
            left_out = f"{', '.join(more)}, as the model has no such inputs"
        feed = {name: value for name, value in feed.items() if name in known}
        yield from ((part, left_out) for part in _split(feed, batch))


def _rows(rows: Iterable[Any], inputs: Sequence[Input]) -> Iterator[tuple[object, str]]:
    """Yield the columns of a dataset that have the names of inputs, with a batch axis."""
    size = fixed_batch(inputs) or 1
    group: list[dict[str, Any]] = []
    for row in rows:
        missing = [s for s in inputs if s.required and s.name not in row]
        if missing:
            raise CalibrationError(_missing(row, missing))
        named = [spec for spec in inputs if spec.name in row]
        group.append({spec.name: _cell(row[spec.name], spec) for spec in named})
        if len(group) == size:
            yield {n: _stacked([each[n] for each in group], n) for n in group[0]}, ""
            group = []
    if group:
        yield None, f"the last {plural(len(group), 'row')}, as the model takes {size}"


def fixed_batch(inputs: Sequence[Input]) -> int | None:
    """Return the size of the first axis where all inputs fix the same; else None."""
    sizes = {spec.shape[0] if spec.shape else None for spec in inputs if spec.required}
    return sizes.pop() if len(sizes) == 1 else None


def _split(feed: Mapping[str, Any], batch: int | None) -> Iterator[Mapping[str, Any]]:
    lengths = {np.shape(value)[:1] for value in feed.values()}
    if batch is None or len(lengths) != 1 or () in lengths:
        yield feed
        return
    ((length,),) = lengths
    if length % batch or length == batch:
        yield feed  # if it does not fit, the check names both sizes
        return
    for start in range(0, length, batch):
        yield {name: value[start : start + batch] for name, value in feed.items()}


def _converted(value: Any) -> Any:
    """Return a tensor as an array; lists and numbers stay, and are refused with advice."""
    if isinstance(value, (np.ndarray, np.generic)) or not _is_array(value):
        return value
    return as_numpy(value)


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__")


def _cell(value: Any, spec: Input) -> Any:
    # Python's numbers have no type: the model's is meant.
    array = as_numpy(value) if _is_array(value) else np.asarray(value, spec.dtype)
    rank = None if spec.shape is None else len(spec.shape)
    return array[0] if array.ndim == rank and len(array) == 1 else array


def _stacked(values: list[Any], name: str) -> Any:
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        raise CalibrationError(
            f"The model takes {len(values)} rows at a time, and those of {name!r} have "
            f"different shapes: {sorted(shapes)}. Pad them to one length."
        )
    return np.stack(values)


def _missing(row: Mapping[str, Any], missing: Sequence[Input]) -> str:
    texts = [name for name, value in row.items() if isinstance(value, str)]
    pictures = [
        name for name, value in row.items() if type(value).__module__.startswith("PIL.")
    ]
    how = "Rename a column (dataset.rename_column), or make it by dataset.map."
    if pictures:
        how = (
            f"Images become samples by qc.data.images(dataset[{pictures[0]!r}], size=224, "
            "mean=…, std=…)."
        )
    elif texts:
        how = (
            f"Texts become samples by qc.data.texts(dataset[{texts[0]!r}], "
            'tokenizer="tokenizer.json", length=128).'
        )
    return (
        f"The dataset has the columns {sorted(map(str, row))}, and the model wants "
        f"{describe_inputs(missing)}. {how}"
    )
