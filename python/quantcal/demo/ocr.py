"""Runs the text-line recognizer: pixels to tensor, scores to text, text to accuracy.

The model is PP-OCRv4 rec: input ``x`` [N, 3, 48, W], output [N, T, classes] for CTC
(connectionist temporal classification: Graves et al., 2006), one column per 8 pixels.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from quantcal.demo.members import Member

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from quantcal.demo.lines import Line

Arithmetic = Literal["exact", "native"]

RECOGNIZER: Final = Member(
    "rapidocr-onnxruntime",
    "1.4.4",
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    "Apache-2.0",
    "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
)
"""The model that the demo quantizes."""

_HEIGHT: Final = 48
_WIDTH_STEP: Final = 64
_MIN_WIDTH: Final = 320
_BATCH: Final = 8
_BLANK: Final = 0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well a recognizer reads a set of lines.

    Attributes
    ----------
    exact_match
        The share of lines read without a mistake, 0 to 1.
    cer
        Character error rate: wrong, missing and extra characters by characters of the
        labels. 0 is perfect; it may exceed 1.
    seconds
        Wall time inside the model, in seconds.
    lines
        How many lines were read.
    """

    exact_match: float
    cer: float
    seconds: float
    lines: int

    @property
    def margin(self) -> float:
        """Half of the 95 % interval of `exact_match` (binomial, Wilson 1927)."""
        z, n, p = 1.96, self.lines, self.exact_match
        return z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))


def evaluate(
    model_path: str | os.PathLike[str],
    lines: Sequence[Line],
    *,
    arithmetic: Arithmetic = "native",
) -> Accuracy:
    """Read all lines with the model and compare with their labels.

    Parameters
    ----------
    model_path
        The recognizer, in float or quantized, with its character list as metadata.
    lines
        The lines to read; at least one.
    arithmetic
        ``"native"`` runs the model as ONNX Runtime optimizes it on this machine, with
        integer kernels for Q/DQ pairs. ``"exact"`` computes every Q/DQ node as written and
        the operators between them in float. It shows the loss by the ranges, without that
        of the kernels. For a float model the two are the same.

    Raises
    ------
    ValueError
        If `lines` is empty, `arithmetic` is not known, or the model has no character list.
    """
    if not lines:
        raise ValueError("evaluate needs at least one line, and lines is empty.")
    session = _session(Path(model_path), arithmetic)
    try:
        characters = character_list(session)
    except KeyError as error:
        raise ValueError(
            f"{model_path} carries no character list in its metadata, so its output has no "
            "text. Only recognizers of PP-OCR can be evaluated."
        ) from error
    texts = [""] * len(lines)
    seconds = 0.0
    for numbers, x in batches(lines):
        start = time.perf_counter()
        (scores,) = session.run(None, {"x": x})
        seconds += time.perf_counter() - start
        for number, best in zip(numbers, scores.argmax(axis=2), strict=True):
            texts[number] = decode(best, characters)
    return score(texts, [line.text for line in lines], seconds)


def score(texts: Sequence[str], labels: Sequence[str], seconds: float) -> Accuracy:
    """Return how well `texts` read `labels`; blanks at the ends do not count."""
    pairs = [(a.strip(), b.strip()) for a, b in zip(texts, labels, strict=True)]
    errors = sum(edit_distance(a, b) for a, b in pairs)
    return Accuracy(
        exact_match=sum(a == b for a, b in pairs) / len(pairs),
        cer=errors / max(1, sum(len(label) for _, label in pairs)),
        seconds=seconds,
        lines=len(pairs),
    )


def _session(model_path: Path, arithmetic: Arithmetic) -> Any:
    import onnxruntime as ort

    if arithmetic not in ("exact", "native"):
        raise ValueError(f'arithmetic must be "exact" or "native", not {arithmetic!r}.')
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if arithmetic == "exact":
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])


def character_list(session: Any) -> list[str]:
    """Return the text of each class of the output: blank, characters, space."""
    metadata = session.get_modelmeta().custom_metadata_map
    # Not splitlines(): it would also split at characters that belong to the list.
    return ["", *metadata["character"].split("\n"), " "]


def preprocess(line: Line, width: int) -> npt.NDArray[np.float32]:
    """Return the input of the model: shape (3, 48, `width`), BGR, -1 to 1.

    The picture is scaled to the height; the rest of the width on the right is 0.
    """
    from PIL import Image

    height, full, _ = line.pixels.shape
    scaled = min(width, max(1, math.ceil(_HEIGHT * full / height)))
    picture = Image.fromarray(line.pixels).resize(
        (scaled, _HEIGHT), Image.Resampling.BILINEAR
    )
    x = np.zeros((3, _HEIGHT, width), dtype=np.float32)
    values = np.asarray(picture, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1)
    x[:, :, :scaled] = (values / 255 - 0.5) / 0.5
    return x


def batches(
    lines: Sequence[Line], *, size: int = _BATCH
) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
    """Yield line numbers and their input [N, 3, 48, W], N at most `size`.

    A line's width depends on the line alone, so its text does not depend on the other
    lines.
    """
    groups: dict[int, list[int]] = {}
    for number, line in enumerate(lines):
        groups.setdefault(_padded_width(line), []).append(number)
    for width, members in sorted(groups.items()):
        for start in range(0, len(members), size):
            numbers = members[start : start + size]
            yield numbers, np.stack([preprocess(lines[n], width) for n in numbers])


def _padded_width(line: Line) -> int:
    height, full, _ = line.pixels.shape
    steps: int = math.ceil(_HEIGHT * full / height / _WIDTH_STEP)
    return max(_MIN_WIDTH, steps * _WIDTH_STEP)


def decode(best: npt.NDArray[np.integer], characters: Sequence[str]) -> str:
    """Return the text of one CTC path: repeats collapse, then blanks vanish.

    Parameters
    ----------
    best
        The most likely class of each column; class 0 is the blank.
    characters
        The text of each class.
    """
    starts = np.diff(best, prepend=-1) != 0
    return "".join(characters[c] for c in best[starts] if c != _BLANK)


def edit_distance(a: str, b: str) -> int:
    """Return the minimum number of inserted, deleted or changed characters.

    The textbook recurrence over one row, O(len(a) * len(b)): lines are short.
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            change = diagonal + (x != y)
            diagonal, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


class LineSamples:
    """The lines as samples of the recognizer, one at a time, for `observe`.

    Parameters
    ----------
    lines
        The lines, in order.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        for line in self._lines:
            yield {"x": preprocess(line, _padded_width(line))[None]}
