"""Advice on SmolLM2, and the perplexity with the advised inputs in float."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import quantcal as qc
from quantcal.advice.result import Advice

from . import smollm2, texts
from .chain import Chain
from .configurations import Configuration, most_lost
from .measure import WINDOW, Results, perplexity, windows
from .reading import Progress, Reader

CALIBRATION = 8
"""Windows of each calibration text for the ranges, as in the perplexity experiment."""


def run(options: argparse.Namespace) -> None:
    """Advise, measure the perplexities, print the table."""
    model, tokenizer = smollm2.load()

    def read(text: texts.Text, number: int) -> Tensor:
        return windows(tokenizer.encode(text.content).ids, number)

    each = options.samples // 2
    read_too = -(-each * options.tokens // WINDOW)
    of_texts = [read(t, CALIBRATION + read_too) for t in texts.calibration_texts()]
    stored = options.output / "observed.qcal"
    if not stored.is_file():
        observed(model, torch.cat([w[:CALIBRATION] for w in of_texts])).save(stored)
    cal = qc.load(stored)
    samples = alternating([w[CALIBRATION:] for w in of_texts], each, options.tokens)
    started = time.perf_counter()
    advice = qc.torch.advise(
        model,
        samples,
        exclude="lm_head",
        calibrator=cal,
        strategy=options.strategy,
        format="uint8",
        keep_float=options.keep,
        remedies=options.remedies,
        time_limit=None if options.minutes is None else 60 * options.minutes,
        progress=True,
    )
    print(advice.summary(), flush=True)
    print(f"\nadvise took {time.perf_counter() - started:.0f} s", flush=True)
    path = options.output / "advice.json"
    path.write_text(json.dumps(advice.to_dict(), indent=1), "utf-8")
    evaluation = [read(t, options.windows) for t in texts.evaluation_texts()]
    table = cal.compute(advice.strategy or options.strategy, format="uint8")
    lines = measured(Chain(model), table, advice, evaluation, options.output)
    print("\n".join(lines))


def observed(model: torch.nn.Module, calibration: Tensor) -> qc.Calibrator:
    """Return the histograms of all inputs of the blocks' linear layers."""
    with torch.no_grad(), qc.torch.observe(model, exclude="lm_head") as cal:
        for window in calibration:
            model(window[None])
    return cal


def alternating(texts: Sequence[Tensor], each: int, tokens: int) -> list[Tensor]:
    """Return samples [1, tokens], so that both texts are at even and at odd places."""
    parts = [text.reshape(-1)[: each * tokens].view(each, 1, tokens) for text in texts]
    pairs = [text.split(2) for text in parts]
    return [sample for two in zip(*pairs, strict=True) for s in two for sample in s]


def measured(
    chain: Chain,
    table: qc.CalibrationTable,
    advice: Advice,
    evaluation: Sequence[Tensor],
    output: Path,
) -> list[str]:
    """Return the lines of a table: perplexities with inputs of each set in float."""
    table_of = {name: table[name] for name in chain.names}
    lost = [name for name in most_lost(table) if name in table_of]
    advised = [name for name in chain.names if name in advice.exclude]
    kept = {
        "none": [],
        f"{len(advised)} by `rounded_to_zero`": lost[: len(advised)],
        f"{len(advised)} by `advise`": advised,
    }
    found = {
        label: Configuration(
            label, table={n: p for n, p in table_of.items() if n not in names}
        )
        for label, names in kept.items()
    }
    plain = Configuration("float")
    results, workers = Results(output / "losses"), os.cpu_count() or 1
    reader = Reader(results, {(None, ""): chain}, workers)
    work = [(w, [plain, *found.values()]) for text in evaluation for w in text]
    reader.read(work, Progress(reader.missing(work)))

    def losses(configuration: Configuration, text: Tensor) -> np.ndarray:
        return np.stack([results.load(configuration.digest, w) for w in text])

    lines = [
        "| of 120 inputs in float | quotations | manual |",
        "| --- | --- | --- |",
    ]
    for label, configuration in found.items():
        cells = [
            perplexity(losses(configuration, t), losses(plain, t)) for t in evaluation
        ]
        row = [f"×{p.ratio:.3f} ({p.low:.2f} … {p.high:.2f})" for p in cells]
        lines.append(f"| {' | '.join([label, *row])} |")
    return lines
