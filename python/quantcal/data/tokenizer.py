"""A tokenizer of Hugging Face's `tokenizers`, from a file, with our own lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal._process import imports
from quantcal.data.inputs import Array

_PADDINGS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>")


@dataclass(frozen=True)
class Tokens:
    """Texts as arrays [texts, tokens].

    Attributes
    ----------
    ids, types
        Numbers of tokens and of segments.
    mask
        1 at tokens, 0 at padding.
    """

    ids: Array
    types: Array
    mask: Array

    @property
    def positions(self) -> Array:
        """Place of each token in its text; padding on the left counts as the first."""
        places: Array = np.maximum(np.cumsum(self.mask, axis=1) - 1, 0)
        if self.mask.size and self.mask[:, 0].all():  # as models count by themselves
            places = np.broadcast_to(np.arange(self.mask.shape[1]), self.mask.shape)
        return places


class TextTokenizer:
    """Makes arrays of texts.

    Parameters
    ----------
    path
        A ``tokenizer.json``.

    Raises
    ------
    CalibrationError
        If it cannot be read; says what it must be.
    ImportError
        If tokenizers is missing.
    """

    def __init__(self, path: Path) -> None:
        imports.require(
            ("tokenizers",), "quantcal.data.texts needs", "text", "tokenizers"
        )
        import tokenizers

        if path.is_dir():
            path /= "tokenizer.json"
        if not path.exists():
            raise CalibrationError(
                f"{path} does not exist. Give the tokenizer.json beside the model's weights."
            )
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise CalibrationError(
                f"{path} is not a tokenizer.json of Hugging Face's tokenizers: {error}. "
                "tokenizer.save_pretrained(folder) of transformers writes one."
            ) from error
        self._padding = self._tokenizer.padding or {}

    def encode(
        self, texts: Sequence[str], most: int | None, fill: int | None
    ) -> Tokens:
        """Return texts of one length: the longest one's, or a given one.

        Parameters
        ----------
        texts
            One or more.
        most
            Tokens that a text may have; the rest is cut. None for any number.
        fill
            Number of tokens that each has then, by padding; None for that of the longest.

        Raises
        ------
        CalibrationError
            If special tokens alone are more than a text may have.
        """
        self._tokenizer.no_padding()
        if most is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(most)
        found = self._tokenizer.encode_batch(list(texts))
        longest = max(len(each.ids) for each in found)
        if most is not None and longest > most:  # the library then cuts nothing
            raise CalibrationError(
                f"length is {most}, less than the special tokens of each text. Give a larger "
                "one (--length)."
            )
        length = fill or longest
        side = self._padding.get("direction", "right")
        ids = [self._pad(e.ids, length, self._padding_id(), side) for e in found]
        kind = self._padding.get("pad_type_id", 0)
        types = [self._pad(e.type_ids, length, kind, side) for e in found]
        mask = [self._pad([1] * len(e.ids), length, 0, side) for e in found]
        return Tokens(*(np.array(rows, np.int64) for rows in (ids, types, mask)))

    def _padding_id(self) -> int:
        if "pad_id" in self._padding:
            return int(self._padding["pad_id"])
        numbers = (self._tokenizer.token_to_id(token) for token in _PADDINGS)
        return next((int(number) for number in numbers if number is not None), 0)

    @staticmethod
    def _pad(values: list[int], length: int, value: int, side: str) -> list[int]:
        rest = [value] * (length - len(values))
        return rest + list(values) if side == "left" else list(values) + rest
