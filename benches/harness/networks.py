"""The networks that observation is measured on, with the size of their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.models import MODELS
from tests.models.export import missing_packages, onnx_file

Feed = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Network:
    """A network and its samples.

    Attributes
    ----------
    title
        What the tables call it.
    shape
        Shape of a sample's main input, as measured.
    small
        Shape of a sample in a smoke run.
    feeds
        Takes a number of samples and a shape, and yields the samples.
    """

    title: str
    shape: tuple[int, ...]
    small: tuple[int, ...]
    feeds: Callable[[int, tuple[int, ...]], Iterator[Feed]]


def images(samples: int, shape: tuple[int, ...]) -> Iterator[Feed]:
    """Yield images of random 16 x 16 blocks: a detector does not react to pure noise."""
    generator = np.random.default_rng(0)
    *outer, height, width = shape
    for _ in range(samples):
        coarse = generator.normal(size=(*outer, height // 16, width // 16))
        yield {"x": coarse.repeat(16, 2).repeat(16, 3).astype(np.float32)}


def sentences(samples: int, shape: tuple[int, ...]) -> Iterator[Feed]:
    """Yield batches of token ids from Python's manual, without padding."""
    import pydoc_data.topics

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODELS["minilm-tokenizer"].fetch()))
    tokenizer.no_truncation()
    text = "\n".join(pydoc_data.topics.topics.values())[: 10 * samples * np.prod(shape)]
    tokens = np.array(tokenizer.encode(text).ids, dtype=np.int64)
    size = int(np.prod(shape))
    for i in range(samples):
        piece = tokens[i * size : (i + 1) * size].reshape(shape)
        yield {"tokens": piece, "attention_mask": np.ones_like(piece)}


NETWORKS = {
    "pp-ocr-det": Network(
        "PP-OCRv4 detector", (1, 3, 640, 640), (1, 3, 96, 96), images
    ),
    "pp-ocr-rec": Network(
        "PP-OCRv4 recognizer", (1, 3, 48, 320), (1, 3, 48, 96), images
    ),
    "minilm": Network("MiniLM sentence encoder", (4, 128), (2, 16), sentences),
}


def model_file(key: str, folder: Path) -> Path | None:
    """Return the network as an ONNX file; None, with the reason printed, without torch."""
    missing = missing_packages(key)
    if missing:
        print(
            f"\n{NETWORKS[key].title}: skipped, {', '.join(missing)} is not installed"
        )
        return None
    return onnx_file(key, folder)
