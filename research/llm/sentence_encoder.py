"""The accuracy of a sentence encoder with every strategy for the ranges of its activations.

The script quantizes the inputs of all-MiniLM-L6-v2's linear layers with every strategy. It
compares the vectors with the float model's: their cosine, and how often the nearest topic is
the right one, for quotations of ten topics (Debian's fortunes).

    python -m research.llm.sentence_encoder

takes two and a half minutes on two idle cores. Needs the extra: pip install "quantcal[llm]".
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import quantcal as qc
from quantcal.torch import fake_quantize, observe
from research.llm import minilm, texts
from research.llm.configurations import STRATEGIES

EACH = 60
"""Quotations of a topic. A quarter calibrates, a quarter gives the topic's mean vector, and
half are classified. Some topics have fewer."""

Batches = list[tuple[list[int], Tensor, Tensor]]


@dataclass(frozen=True)
class Data:
    """Quotations, divided by their use."""

    calibration: Batches
    known: Batches
    known_topics: list[str]
    asked: Batches
    asked_topics: list[str]


def read(tokenizer: object, number: int) -> Data:
    """Return the quotations of ten topics in three parts."""
    found = texts.labeled_quotations(number)
    random.Random(0).shuffle(found)
    parts = [found[0::4], found[1::4], found[2::4] + found[3::4]]
    calibration, known, asked = (
        minilm.batches(tokenizer, [text for text, _ in part]) for part in parts
    )
    topics = [[topic for _, topic in part] for part in parts]
    return Data(calibration, known, topics[1], asked, topics[2])


def accuracy(vectors: Tensor, topics: list[str], centers: dict[str, Tensor]) -> float:
    """Return how often the nearest topic is the right one."""
    names = list(centers)
    nearest = (vectors @ torch.stack(list(centers.values())).T).argmax(dim=1)
    return float(np.mean([names[i] == t for i, t in zip(nearest, topics, strict=True)]))


def centers(vectors: Tensor, topics: list[str]) -> dict[str, Tensor]:
    """Return the mean vector of each topic."""
    return {
        topic: vectors[[i for i, t in enumerate(topics) if t == topic]].mean(dim=0)
        for topic in sorted(set(topics))
    }


def for_all_readers(table: dict[str, qc.QuantParams]) -> dict[str, qc.QuantParams]:
    """Give key and value the parameters of the query, because they read the same tensor."""
    found = dict(table)
    for name, params in table.items():
        if name.endswith(".query"):
            stem = name.removesuffix("query")
            found |= {f"{stem}key": params, f"{stem}value": params}
    return found


def interval(cosines: NDArray[np.float32]) -> float:
    """Return half a 95 % interval of the mean, by a bootstrap of sentences."""
    draws = np.random.default_rng(0).integers(len(cosines), size=(2000, len(cosines)))
    low, high = np.percentile(cosines[draws].mean(axis=1), [2.5, 97.5])
    return float(high - low) / 2


def main() -> None:
    """Measure every strategy and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--each", type=int, default=EACH, help=f"quotations a topic (default: {EACH})"
    )
    parser.add_argument(
        "--bits", type=int, nargs="+", default=[8, 4], help="widths (default: 8 and 4)"
    )
    options = parser.parse_args()
    number = options.each
    start = time.perf_counter()
    model, tokenizer = minilm.load()
    data = read(tokenizer, number)
    include = list(minilm.READ)
    with (
        observe(model, include, mask="attention_mask") as cal,
        observe(model, include, mask="attention_mask", axis=-1) as channels,
    ):
        minilm.embed(model, data.calibration)
    known = centers(minilm.embed(model, data.known), data.known_topics)
    reference = minilm.embed(model, data.asked)
    right = accuracy(reference, data.asked_topics, known)
    print(
        f"{len(reference)} quotations, {len(known)} topics; accuracy in float {right:.3f}"
    )
    print(
        "\n| ranges | mean cosine | worst cosine | topic accuracy | largest loss to zero |"
    )
    print("|---|---|---|---|---|")
    for bits in options.bits:
        tables = {m: cal.compute(m, format=f"uint{bits}") for m in STRATEGIES}
        tables["llm_layers"] = cal.compute("llm_layers", format=f"uint{bits}")
        tables["minmax per channel"] = channels.compute("minmax", format=f"uint{bits}")
        tables["mse per channel"] = channels.compute("mse", format=f"uint{bits}")
        tables["per token"] = tables["minmax"]
        for name, table in tables.items():
            by_token = name == "per token"
            with fake_quantize(
                model,
                for_all_readers(table),
                activations="per_token" if by_token else "static",
            ):
                vectors = minilm.embed(model, data.asked)
            cosines = (vectors * reference).sum(dim=1).numpy()
            lost = max(report.rounded_to_zero for report in table.report.values())
            print(
                f"| {name}, {bits} bits | {cosines.mean():.4f} ± {interval(cosines):.4f} "
                f"| {cosines.min():.3f} "
                f"| {accuracy(vectors, data.asked_topics, known):.3f} "
                f"| {'–' if by_token else f'{lost:.3f}'} |",
                flush=True,
            )
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
