"""Samples of texts: one text a line, through a tokenizer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.data.inputs import Input, UsualInput
from quantcal.data.source import (
    Bound,
    Named,
    SampleSource,
    as_count,
    description,
    fill,
    in_groups,
)
from quantcal.data.text_roles import TextPlan, plan_texts
from quantcal.data.thinning import spread
from quantcal.data.tokenizer import TextTokenizer, Tokens


class TextSource(SampleSource):
    """Texts as samples; made by :func:`texts`."""

    def __init__(
        self,
        lines: Sequence[tuple[str, str]],
        files: Sequence[Path],
        origin: object,
        tokenizer: TextTokenizer,
        length: int | None,
        constants: object,
    ) -> None:
        super().__init__(files, constants)
        self._lines = lines
        self._origin = origin
        self._tokenizer = tokenizer
        self._length = length

    def __repr__(self) -> str:
        return description(len(self._lines), "text", self._origin)

    def usual_inputs(self) -> Sequence[Input]:
        """Return input_ids and attention_mask, int64 of any size."""
        names = ("input_ids", "attention_mask")
        whole = np.dtype(np.int64)
        return [UsualInput(name, whole, (None, None)) for name in names]

    def bind(self, inputs: Sequence[Input]) -> Bound:
        """Return the samples for a model."""
        plan = plan_texts(inputs, self.constants)
        if None not in (plan.length, self._length) and plan.length != self._length:
            raise CalibrationError(
                f"The model takes {plan.length} tokens, but length (--length) is "
                f"{self._length}. Leave it out."
            )
        constants = fill(self.constants, inputs)
        most = plan.length or self._length
        groups, count = in_groups(
            lambda: iter(self._lines), len(self._lines), plan.batch, "texts"
        )

        def start() -> Iterator[Named]:
            for where, group in groups():
                tokens = self._tokenizer.encode(group, most, plan.length)
                yield where, _arrays(tokens, plan) | constants

        return Bound(start, count)


def _arrays(tokens: Tokens, plan: TextPlan) -> dict[str, Any]:
    values = {
        "ids": tokens.ids,
        "mask": tokens.mask,
        "types": tokens.types,
        "positions": tokens.positions,
    }
    return {
        spec.name: values[role].astype(spec.dtype) for role, spec in plan.roles.items()
    }


def texts(
    source: str | os.PathLike[str] | Sequence[str],
    tokenizer: str | os.PathLike[str],
    *,
    length: int | None = None,
    max_samples: int | None = None,
    constants: Mapping[str, Any] | None = None,
) -> SampleSource:
    """Make samples of texts.

    Fills the inputs that the model has, by their names: input_ids, attention_mask,
    token_type_ids and position_ids, or names with these words in them.

    Parameters
    ----------
    source
        The path of a file in UTF-8 with one text a line, of which empty lines are skipped;
        or a list of texts, such as the column of a dataset.
    tokenizer
        The path of a ``tokenizer.json``, or of the folder that holds it. Its special tokens
        are added. Its own padding and truncation are replaced.
    length
        Tokens that a text may have; the rest is cut. A text is filled with padding only where
        the model fixes the number of tokens, since ranges should come from texts. Default:
        what the model fixes, else no limit.
    max_samples
        Take at most so many texts, evenly spread. Default: all.
    constants
        Other inputs of the model, the same in each sample: an array, or a number that fills
        the input.

    Returns
    -------
    SampleSource
        One text is a sample, or as many as the model takes at a time.

    Raises
    ------
    CalibrationError
        If the file or the tokenizer cannot be read, there is no text, or the model has other
        inputs.
    ImportError
        If tokenizers is missing.
    """
    limit, most = as_count("length", length), as_count("max_samples", max_samples)
    path = Path(tokenizer)
    encoder = TextTokenizer(path)
    files = [path]
    origin: object = "a list"
    if isinstance(source, (str, os.PathLike)):
        origin = Path(source)
        files.append(origin)
        lines = _lines_of(origin)
    else:
        lines = _listed(source)
    return TextSource(spread(lines, most), files, origin, encoder, limit, constants)


def _lines_of(path: Path) -> list[tuple[str, str]]:
    if path.is_dir():
        raise CalibrationError(
            f"{path} is a folder. Give one file with one text a line, such as that of "
            "`cat folder/*.txt`."
        )
    try:
        content = path.read_text("utf-8-sig")
    except OSError as error:
        reason = error.strerror or error
        raise CalibrationError(f"Cannot read {path}: {reason}.") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(
            f"Cannot read {path}: {error}. Save it in UTF-8, with one text a line."
        ) from error
    # Not splitlines, which also splits at the separators inside a text.
    lines = [line.rstrip("\r") for line in content.split("\n")]
    found = [
        (f"{path}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip()
    ]
    if not found:
        raise CalibrationError(
            f"{path} holds no text. Give a file with one text a line."
        )
    return found


def _listed(source: object) -> list[tuple[str, str]]:
    found = []
    given: Iterable[object] = ()
    if isinstance(source, Iterable) and not isinstance(source, (bytes, Mapping)):
        given = source
    for number, text in enumerate(given):
        if not isinstance(text, str):
            raise CalibrationError(
                f"Text {number} is a {type(text).__name__}. Give strings, such as the "
                'column dataset["text"].'
            )
        if text.strip():
            found.append((f"text {number}", text))
    if not found:
        raise CalibrationError(
            f"There is no text in the {type(source).__name__} that was given. Give the path "
            "of a file with one text a line, or a list of strings."
        )
    return found
