"""What each way of choosing ranges does to a real language model, in perplexity.

Observes SmolLM2-135M once and quantises the inputs of its linear layers by every method, on
all layers and on one kind of layer only; then leaves the worst tensors in float, takes 4
bits, a range for each channel and each token, and SmoothQuant. Writes the tables of
docs/llm.md and a picture of the worst tensors.

    python examples/llm_perplexity.py --output llm-results

takes less than 30 minutes on two idle cores, and 4 GB. What was measured is kept in the
folder, so a run that was stopped goes on where it was. Needs the extra:
pip install "quantcal[llm]".
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from llm import configurations as c
from llm import smollm2, texts
from llm.measure import WINDOW, Results, perplexity, windows
from llm.observing import PEER, Observations
from llm.picture import draw
from llm.tables import Row, as_markdown, as_tables, replaced

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
        default=4,
        help="windows of each text where only one kind of layer is quantised, and for "
        "what else is not a method on all inputs (default: 4; 2 if they show the "
        "model destroyed)",
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
    add(
        "--page",
        type=Path,
        help="a page in Markdown, to renew the tables between <!-- table ... --> in it",
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
        self._observed = Observations(options.output, self._model, self._calibration)
        self._float: list[np.ndarray] = []
        self._rows: list[Row] = []

    def run(self) -> None:
        """Measure everything, and write it down after each configuration."""
        self._float = [
            np.stack(self._losses(c.Configuration("float"), text))
            for text in self._windows
        ]
        self._note(c.Configuration("float"), self._float)
        self._say(f"Observing {len(self._calibration)} windows")
        cal = self._observed.of("whole")
        tables = {m: cal.compute(m, format="uint8") for m in self._options.methods}
        if not self._options.only_matrix:
            self._say(f"Observing them with {PEER}")
            tables[PEER] = self._observed.by_torch(cal)
        todo = c.matrix(tables)
        if not self._options.only_matrix:
            self._say("Observing them by channel")
            channels = self._observed.of("channels", axis=-1)
            todo += [
                *c.mixed_precision(cal),
                *c.policies(cal),
                *c.other_grids(cal, channels),
                *c.with_int8_weights(cal),
            ]
        todo.sort(
            key=lambda configuration: not configuration.full
        )  # most telling first
        for number, configuration in enumerate(todo, 1):
            self._measure(configuration, f"{number}/{len(todo)}")
        if not self._options.only_matrix:
            self._measure_smoothed(channels)
        self._say("Drawing the worst tensors")
        table = cal.compute("mse", format="uint8")
        worst = c.most_lost(table)[:4]
        path = self._options.output / "worst-tensors.png"
        draw(self._model, self._calibration[0], cal, table, worst, path)
        if self._options.page is not None:
            text = self._options.page.read_text("utf-8")
            text = replaced(text, as_tables(self._rows))
            self._options.page.write_text(text, "utf-8")
        self._say(f"Tables and pictures are in {self._options.output}")

    def _measure_smoothed(self, channels: c.qc.Calibrator) -> None:
        """Smooth the model, observe it again, and quantise its weights too."""
        for told, alpha, methods in (
            ("alpha 0.5", 0.5, ("minmax", "mse")),
            ("alpha searched", None, ("minmax", "mse")),  # for ranges of MinMax
            ("alpha searched for mse", None, ("mse",)),
        ):
            self._say(f"Smoothing, {told}")
            with c.smoothed(self._model, channels, alpha, methods[0]) as smoothings:
                self._write_alphas(smoothings, told)
                smooth = self._observed.of(told.replace(" ", "-"))
                for configuration in c.with_int8_weights(smooth, told, methods):
                    self._measure(configuration)

    def _write_alphas(self, smoothings: list[c.Smoothing], told: str) -> None:
        content = {s.group.source: s.alpha for s in smoothings}
        path = self._options.output / f"{told.replace(' ', '-')}.json"
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def _losses(
        self, configuration: c.Configuration, text: torch.Tensor
    ) -> list[np.ndarray]:
        context = configuration.applied(self._model)
        return self._results.losses(configuration.content(), text, self._model, context)

    def _measure(self, configuration: c.Configuration, number: str = "") -> None:
        """Read all windows, or fewer: fewest if these show the model destroyed."""
        first = self._options.first
        ends = [self._options.windows] if configuration.full else [PROBE, first]
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
        full = configuration.full
        row = Row(configuration.name, configuration.column, measured, full)
        self._rows.append(row)
        self._say(f"{number:>6}  {row}")
        facts = {
            "evaluated": [f"{t.name} ({t.digest}): {t.source}" for t in self._texts],
            "calibrated": [
                f"{t.name} ({t.digest}): {t.source}" for t in self._calibration_texts
            ],
            "calibration tokens": self._calibration.numel(),
            "seconds of a window": {
                name: round(took, 2) for name, took in self._observed.seconds.items()
            },
            "windows, minutes": self._results.told(),
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
