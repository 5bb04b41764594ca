"""The perplexity experiment: observes, reads the configurations, writes the results."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import configurations as c
from . import smollm2, texts
from .chain import Chain
from .measure import Results, perplexity, windows
from .observing import PEER, Observations
from .picture import draw
from .reading import Progress, Reader, Weights
from .tables import Row, as_markdown, as_tables, replaced

PROBE = 2
"""Windows of each text that decide whether a configuration destroys the model."""

DESTROYED = 3.0
"""A configuration above this multiple of the float perplexity is not read further."""

FLOAT = c.Configuration("float")


class Experiment:
    """One run: the model, the texts, and the results so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._start = time.perf_counter()
        self._results = Results(options.output / "losses")
        self._say("Loading the model (93 MB are fetched the first time)")
        self._model, tokenizer = smollm2.load()

        def read(text: texts.Text, number: int) -> Tensor:
            return windows(tokenizer.encode(text.content).ids, number)

        self._texts = texts.evaluation_texts()
        self._windows = [read(t, options.windows) for t in self._texts]
        number = options.calibration_windows
        self._calibration_texts = texts.calibration_texts()
        self._calibration = torch.cat(
            [read(t, number) for t in self._calibration_texts]
        )
        self._workers = options.threads or os.cpu_count() or 1
        self._chains: dict[Weights, Chain] = {(None, ""): Chain(self._model)}
        self._rows: list[Row] = []

    def run(self) -> None:
        """Observe, read, and write all results."""
        observations = Observations(
            self._options.output, self._calibration, self._workers
        )
        everything = not self._options.only_matrix
        self._say(f"Observing {len(self._calibration)} windows")
        cal, channels, peer = observations.of_model(
            self._chains[None, ""], channels=everything, peer=everything
        )
        strategies = self._options.strategies or list(c.STRATEGIES)
        tables: dict[str, c.Table] = {
            m: cal.compute(m, format="uint8") for m in strategies
        }
        if peer is not None:
            tables[PEER] = peer
        todo = c.matrix(tables)
        if channels is not None:
            todo += [
                *c.mixed_precision(cal),
                *c.policies(cal),
                *c.other_grids(cal, channels),
                *c.with_int8_weights(cal),
                *self._smoothed(channels, observations),
            ]
            self._chains["int8", ""] = c.with_weights(self._model, "int8")
        self._read([FLOAT, *todo])
        self._say("Drawing the worst tensors")
        table = cal.compute("mse", format="uint8")
        path = self._options.output / "worst-tensors.png"
        window = self._calibration[0]
        draw(self._model, window, cal, table, c.most_lost(table)[:4], path)
        if self._options.page is not None:
            text = self._options.page.read_text("utf-8")
            text = replaced(text, as_tables(self._rows))
            self._options.page.write_text(text, "utf-8")
        self._say(f"Tables and pictures are in {self._options.output}")

    def _smoothed(
        self, channels: c.qc.Calibrator, observations: Observations
    ) -> list[c.Configuration]:
        """Smooth and observe the model; return configurations with int8 weights."""
        kinds = {
            "alpha 0.5": (0.5, ("minmax", "mse")),
            "alpha searched": (None, ("minmax", "mse")),  # for MinMax ranges
            "alpha searched for mse": (None, ("mse",)),
        }
        chains = {}
        for label, (alpha, strategies) in kinds.items():
            self._say(f"Smoothing, {label}")
            window = self._calibration[:1]
            with c.smoothed(
                self._model, channels, window, alpha, strategies[0]
            ) as smoothings:
                self._write_alphas(smoothings, label)
                chains[label] = Chain(self._model)
                self._chains["int8", label] = c.with_weights(self._model, "int8")
        self._say(f"Observing {len(chains)} smoothed models")
        found = observations.of_smoothed(chains)
        return [
            configuration
            for label, (_, strategies) in kinds.items()
            for configuration in c.with_int8_weights(found[label], label, strategies)
        ]

    def _write_alphas(self, smoothings: list[c.Smoothing], label: str) -> None:
        content = {s.group.source: s.alpha for s in smoothings}
        path = self._options.output / f"{label.replace(' ', '-')}.json"
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _read(self, todo: Sequence[c.Configuration]) -> None:
        """Read the first windows with everything, the rest without what destroys the model."""
        reader = Reader(self._results, self._chains, self._workers)
        pairs = list(zip(*self._windows, strict=True))  # a window of each text
        first = [(window, todo) for pair in pairs[:PROBE] for window in pair]
        others = [
            (window, [x for x in todo if self._end(x) > number])
            for number, pair in enumerate(pairs[PROBE:], PROBE)
            for window in pair
        ]
        progress = Progress(reader.missing([*first, *others]), at_most=True)
        self._say(f"Reading {progress.total} windows or fewer, {self._workers} at once")
        reader.read(first, progress)
        self._write([(x, PROBE) for x in todo], progress)
        whole = {x.digest for x in todo if self._times_worse(x) <= DESTROYED}
        others = [(w, [x for x in some if x.digest in whole]) for w, some in others]
        progress.total = progress.done + reader.missing(others)
        progress.at_most = False
        destroyed = len(todo) - sum(x.digest in whole for x in todo)
        self._say(
            f"{destroyed} of {len(todo)} destroy the model and are not read further"
        )
        reader.read(others, progress, self._start + 60 * self._options.minutes)
        if left := reader.missing(others):
            self._say(
                f"{left} windows would take longer than --minutes "
                f"{self._options.minutes:g}; run the same command to read them"
            )
        ends = [(x, self._end(x) if x.digest in whole else PROBE) for x in todo]
        self._write(ends, progress)
        for row in self._rows:
            self._say(str(row))

    def _end(self, configuration: c.Configuration) -> int:
        """Return the number of windows of each text to read."""
        options = self._options
        return int(
            options.windows
            if configuration.main
            else min(options.windows, max(PROBE, options.first))
        )

    def _losses(
        self, configuration: c.Configuration, end: int
    ) -> list[NDArray[np.float32]]:
        """Return the losses in the first windows of each text, up to the first one missing."""
        digest, has = configuration.digest, self._results.has
        return [
            np.stack(
                [
                    self._results.load(digest, window)
                    for window in itertools.takewhile(partial(has, digest), text[:end])
                ]
            )
            for text in self._windows
        ]

    def _times_worse(self, configuration: c.Configuration) -> float:
        """Return the perplexity as a multiple of the float model's, over all texts."""
        both = zip(
            self._losses(configuration, PROBE), self._losses(FLOAT, PROBE), strict=True
        )
        return float(
            np.exp(np.mean([losses.mean() - ref.mean() for losses, ref in both]))
        )

    def _write(
        self, ends: Sequence[tuple[c.Configuration, int]], progress: Progress
    ) -> None:
        """Write all tables of the results so far."""
        reference = self._losses(*ends[0])  # FLOAT
        self._rows = []
        for configuration, end in ends:
            measured = {
                text.name: perplexity(losses, ref)
                for text, losses, ref in zip(
                    self._texts,
                    self._losses(configuration, end),
                    reference,
                    strict=True,
                )
            }
            row = Row(
                configuration.name, configuration.column, measured, configuration.main
            )
            self._rows.append(row)
        facts = {
            "evaluated": [f"{t.name} ({t.digest}): {t.source}" for t in self._texts],
            "calibrated": [
                f"{t.name} ({t.digest}): {t.source}" for t in self._calibration_texts
            ],
            "calibration tokens": self._calibration.numel(),
            "windows read in this run": progress.done,
            "minutes for these": round(progress.seconds / 60, 1),
            "minutes of this run": round((time.perf_counter() - self._start) / 60, 1),
        }
        folder = self._options.output
        (folder / "tables.md").write_text(as_markdown(self._rows, facts), "utf-8")
        content = {"facts": facts, "rows": [asdict(row) for row in self._rows]}
        (folder / "results.json").write_text(json.dumps(content, indent=1), "utf-8")

    def _say(self, text: str) -> None:
        seconds = time.perf_counter() - self._start
        print(f"{seconds:7.1f} s  {text}", file=sys.stderr, flush=True)
