"""What each way of choosing ranges does to a real language model, in perplexity.

Observes SmolLM2-135M once and quantises the inputs of its linear layers by every method, on
all layers and on one kind of layer only; then leaves the worst tensors in float, takes 4
bits, a range for each channel and each token, and SmoothQuant. Writes the tables of
docs/llm.md and a picture of the worst tensors.

    python examples/llm_perplexity.py --output llm-results

takes less than 30 minutes on two idle cores, and 3 GB. What was measured is kept in the
folder, so a run that was stopped goes on where it was. Needs the extra:
pip install "quantcal[llm]".
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from llm import configurations as c
from llm import smollm2, texts
from llm.measure import WINDOW, Results, perplexity, windows
from llm.picture import draw
from llm.tables import Row, as_markdown

PROBE = 2
"""Windows of each text after which it is seen whether the model is destroyed."""

DESTROYED = 3.0
"""Not read further: what has more than three times the float model's perplexity."""


def main() -> None:
    """Measure, and write tables and pictures."""
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    Experiment(options).run()


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path("llm-results"),
        help="a folder for all results",
    )
    add(
        "--windows",
        type=int,
        default=16,
        help=f"windows of {WINDOW} tokens of each text (default: 16, 8176 predictions)",
    )
    add(
        "--first",
        type=int,
        default=2,
        help="windows of each text for all but the main configurations (default: 2)",
    )
    add(
        "--calibration-windows",
        type=int,
        default=8,
        help="windows of each of the two calibration texts (default: 8)",
    )
    add("--threads", type=int, default=0, help="of torch and quantcal (default: all)")
    add(
        "--methods",
        nargs="*",
        default=list(c.METHODS),
        help="the methods to compare (default: all)",
    )
    add(
        "--only-matrix",
        action="store_true",
        help="leave out the 4 bits, channels, tokens, SmoothQuant and mixed precision",
    )
    return parser.parse_args()


class Experiment:
    """One run: the model, the texts, and what was measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
            c.qc.set_num_threads(options.threads)
        self._options = options
        self._start = time.perf_counter()
        self._results = Results(options.output / "losses")
        self._say("Loading the model (93 MB are fetched the first time)")
        self._model, tokenizer = smollm2.load()

        def read(text: texts.Text, number: int) -> torch.Tensor:
            return windows(tokenizer.encode(text.content).ids, number)

        self._texts = texts.evaluation_texts()
        self._windows = [read(t, options.windows) for t in self._texts]
        number = options.calibration_windows
        self._calibration_texts = texts.calibration_texts()
        self._calibration = torch.cat(
            [read(t, number) for t in self._calibration_texts]
        )
        self._float: list[np.ndarray] = []
        self._rows: list[Row] = []

    def run(self) -> None:
        """Measure everything, and write it down after each configuration."""
        self._float = [
            np.stack(list(self._losses(c.Configuration("float"), text)))
            for text in self._windows
        ]
        self._note(c.Configuration("float"), self._float)
        cal, channels = self._observe("")
        todo = c.matrix(cal, self._options.methods)
        if not self._options.only_matrix:
            todo += [
                *c.mixed_precision(cal),
                *c.policies(cal),
                *c.other_grids(cal, channels),
            ]
        for number, configuration in enumerate(todo, 1):
            self._measure(configuration, f"{number}/{len(todo)}")
        if not self._options.only_matrix:
            self._measure_smoothed(cal, channels)
        self._say("Drawing the worst tensors")
        table = cal.compute("mse", format="uint8")
        worst = c.most_lost(table)[:4]
        path = self._options.output / "worst-tensors.png"
        draw(self._model, self._calibration[0], cal, table, worst, path)
        self._say(f"Tables and pictures are in {self._options.output}")

    def _observe(self, name: str) -> tuple[c.qc.Calibrator, c.qc.Calibrator]:
        """Observe the model as it is, or read what an earlier run observed."""
        number = len(self._calibration)
        paths = [
            self._options.output / f"observed{name}-{number}-{part}.qcal"
            for part in ("whole", "channels")
        ]
        if not all(path.is_file() for path in paths):
            self._say(f"Observing {number} windows{name.replace('-', ' ')}")
            found = c.observe_windows(self._model, self._calibration)
            for cal, path in zip(found, paths, strict=True):
                cal.save(path)
        whole, channels = (c.qc.load(path) for path in paths)
        return whole, channels

    def _measure_smoothed(
        self, cal: c.qc.Calibrator, channels: c.qc.Calibrator
    ) -> None:
        """Quantise weights too, as they are and smoothed."""
        for method in ("minmax", "mse"):
            table = cal.compute(method, format="uint8")
            name = f"{method}, int8 weights"
            self._measure(
                c.Configuration(name, table=table, weights="int8", full=False)
            )
        for alpha in (0.5, None):
            told = "alpha searched" if alpha is None else f"alpha {alpha}"
            with c.smoothed(self._model, channels, alpha) as smoothings:
                self._write_alphas(smoothings, told)
                smooth, _ = self._observe(f"-{told.replace(' ', '-')}")
                for method in ("minmax", "mse"):
                    self._measure(
                        c.Configuration(
                            f"{method}, int8 weights, {told}",
                            table=smooth.compute(method, format="uint8"),
                            weights="int8",
                            smoothing=told,
                            full=False,
                        )
                    )

    def _write_alphas(self, smoothings: list[c.Smoothing], told: str) -> None:
        content = {s.group.source: s.alpha for s in smoothings}
        path = self._options.output / f"{told.replace(' ', '-')}.json"
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _losses(
        self, configuration: c.Configuration, text: torch.Tensor
    ) -> Iterator[np.ndarray]:
        context = configuration.applied(self._model)
        return self._results.losses(configuration.content(), text, self._model, context)

    def _measure(self, configuration: c.Configuration, number: str = "") -> None:
        """Read more windows of each text, as long as they tell more."""
        ends = [PROBE, self._options.first]
        if configuration.full:
            ends.append(self._options.windows)
        found: list[list[np.ndarray]] = [[] for _ in self._windows]
        for end in ends:
            for so_far, text in zip(found, self._windows, strict=True):
                so_far.extend(self._losses(configuration, text[len(so_far) : end]))
            if self._times_worse(found) > DESTROYED:
                break
        self._note(configuration, [np.stack(losses) for losses in found], number)

    def _times_worse(self, found: list[list[np.ndarray]]) -> float:
        """Return the perplexity as a multiple of the float model's, over all texts."""
        more = [
            np.mean(losses) - reference[: len(losses)].mean()
            for losses, reference in zip(found, self._float, strict=True)
        ]
        return float(np.exp(np.mean(more)))

    def _note(
        self, configuration: c.Configuration, found: list[np.ndarray], number: str = ""
    ) -> None:
        measured = {
            text.name: perplexity(losses, reference)
            for text, losses, reference in zip(
                self._texts, found, self._float, strict=True
            )
        }
        row = Row(configuration.name, configuration.column, measured)
        self._rows.append(row)
        self._say(f"{number:>6}  {row}")
        facts = {
            "evaluated": [f"{t.name} ({t.digest}): {t.source}" for t in self._texts],
            "calibrated": [
                f"{t.name} ({t.digest}): {t.source}" for t in self._calibration_texts
            ],
            "calibration tokens": self._calibration.numel(),
            "model seconds": round(self._results.seconds()),
        }
        folder = self._options.output
        (folder / "tables.md").write_text(as_markdown(self._rows, facts), "utf-8")
        content = {"facts": facts, "rows": [asdict(row) for row in self._rows]}
        (folder / "results.json").write_text(json.dumps(content, indent=1), "utf-8")

    def _say(self, text: str) -> None:
        seconds = time.perf_counter() - self._start
        print(f"{seconds:7.1f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
