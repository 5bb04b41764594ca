"""The networks that observing is measured on, and samples for them.

A sentence encoder is no file that a package carries as ONNX: it is exported by torch, in a
process of its own, so that the measured ones never load torch.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Feed = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Network:
    """A network with the sizes of its samples.

    Attributes
    ----------
    title : str
    shape : tuple of int
        Of a sample's main input, as measured.
    small : tuple of int
        Of a sample that only shows that all runs.
    feeds : callable
        Number of samples and shape -> samples.
    """

    title: str
    shape: tuple[int, ...]
    small: tuple[int, ...]
    feeds: Callable[[int, tuple[int, ...]], Iterator[Feed]]


def images(samples: int, shape: tuple[int, ...]) -> Iterator[Feed]:
    """Yield smooth random images: noise alone would not excite a detector."""
    generator = np.random.default_rng(0)
    *outer, height, width = shape
    for _ in range(samples):
        coarse = generator.normal(size=(*outer, height // 16, width // 16))
        yield {"x": coarse.repeat(16, 2).repeat(16, 3).astype(np.float32)}


def sentences(samples: int, shape: tuple[int, ...]) -> Iterator[Feed]:
    """Yield batches of token numbers: pieces of the manual of Python, without padding."""
    import pydoc_data.topics

    from tokenizers import Tokenizer

    from quantcal.demo.fetch import MODELS

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
        "PP-OCRv4 recogniser", (1, 3, 48, 320), (1, 3, 48, 96), images
    ),
    "minilm": Network("MiniLM sentence encoder", (4, 128), (2, 16), sentences),
}


def model_file(key: str, folder: Path) -> Path | None:
    """Return the network as an ONNX file, made in `folder` if need be; None without torch."""
    if key != "minilm":
        from quantcal.demo.fetch import MODELS

        return MODELS[key].fetch()
    needed = ("torch", "safetensors", "tokenizers")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        print(f"\n{NETWORKS[key].title}: left out, without {', '.join(missing)}")
        return None
    path = folder / f"{key}.onnx"
    subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(path)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return path


def export(path: Path) -> None:
    """Write the sentence encoder with variable batch and length."""
    sys.path.insert(0, str(EXAMPLES))
    import torch
    from llm.minilm import load

    model, _ = load()
    tokens = torch.ones(2, 16, dtype=torch.long)
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(
        model,
        (tokens, tokens),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["tokens", "attention_mask"],
        output_names=["vectors"],
        dynamic_axes={"tokens": axes, "attention_mask": axes, "vectors": {0: "batch"}},
    )


if __name__ == "__main__":
    export(Path(sys.argv[1]))
