"""Accuracy of real networks with each correction, alone and together: writes `PAGE`.

`python -m benches.accuracy.corrections` takes half an hour on two cores. Names of networks
run only these and write nothing. Half of the samples calibrates, the other half is judged,
in exact arithmetic: the written Q/DQ nodes are computed in float.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import quantcal as qc
from benches.accuracy.placement import CASES, Case, interval, session
from benches.harness import machine
from benches.harness.process import DOCS
from quantcal.onnx import QuantizeOptions
from tests.models.export import onnx_file

Array = np.ndarray[Any, Any]
NETWORKS = ("det", "rec", "minilm", "magika")
CORRECTIONS = QuantizeOptions.describe()["corrections"].choices
CHOICES = ((), *((name,) for name in CORRECTIONS), CORRECTIONS)
PAGE = DOCS / "measurements" / "corrections.md"
"""The page that is written."""


def figures(path: Path, feeds: list[Any], right: list[list[Array]]) -> Array:
    """Return the loss of each sample, and the cosine of its outputs."""
    opened = session(path, exact=True)
    rows = []
    for feed, outputs in zip(feeds, right, strict=True):
        made = opened.run(None, feed)
        pairs = [
            (a.astype(np.float64), b.astype(np.float64))
            for a, b in zip(made, outputs, strict=True)
            if b.dtype == np.float32
        ]
        loss = [((a - b) ** 2).mean() / max(b.var(), 1e-30) for a, b in pairs]
        sizes = [np.sqrt((a**2).sum() * (b**2).sum()) for a, b in pairs]
        cosine = [
            (a * b).sum() / max(size, 1e-30)
            for (a, b), size in zip(pairs, sizes, strict=True)
        ]
        rows.append((np.mean(loss), np.mean(cosine)))
    return np.array(rows)


def measure(case: Case, most: int) -> Iterator[str]:
    """Yield the rows of one network's table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, samples = onnx_file(case.model, folder), case.samples()
        half = min(len(samples) // 2, most)
        given, judged = samples[:half], samples[half : 2 * half]
        opened = session(model)
        right = [opened.run(None, feed) for feed in judged]
        del opened
        for chosen in CHOICES:
            path = folder / "quantized.onnx"
            result = qc.onnx.quantize(
                model, path, given, corrections=chosen, progress=False
            )
            rows = figures(path, judged, right)
            changed = ", ".join(str(len(each.changed)) for each in result.corrections)
            losses, cosines = rows[:, 0], rows[:, 1]
            title = "all three" if chosen == CORRECTIONS else "".join(chosen) or "none"
            yield (
                f"| {title} | {changed} | {losses.mean():.3g} ± {interval(losses):.1g} "
                f"| {cosines.mean():.5f} |"
            )


HEAD = """# Corrections of the model, measured

Written by `python -m benches.accuracy.corrections --samples {most}`; do not edit.
{machine}

Loss is the squared error of the outputs over their variance, with half of its 95 % interval.
Cosine is that of the angle between the outputs. Both are means over samples that were not
used for calibration, in exact arithmetic: the written Q/DQ nodes are computed in float. At
most {most} samples calibrate, and as many are judged. *Changed* counts pairs of layers,
groups of layers behind a norm, and biases. All other options are the defaults.

MiniLM has its norms behind the residual sums. The next sum reads each of them too, so none
can be smoothed.

Bias correction nearly doubled the loss of MiniLM with mse, which clips. The cause is the
input of `output/dense`, which has massive activations at the first token. The clipped values
of 1 % of the tokens make 88 % of this layer's squared error in block 0, and 75 % in block 2.
So the mean error of a channel was that of a few tokens, and a bias adds it to every token.
Corrected alone, these six biases made all of the damage. Now a channel keeps its bias if
less than half of its values would come nearer to the float model. The tables of MiniLM and
of both PP-OCR networks below are older than this rule. With 8 samples to calibrate and 8 to
judge, or 6 and 6 for the detector (one run each, Intel Xeon, two shared cores, 2026-12-01):

| run | none | before | now |
|---|---|---|---|
| MiniLM, mse | 0.0136 ± 0.001 | 0.0225 | 0.0143 |
| MiniLM, minmax | 0.0148 ± 0.001 | 0.0115 | 0.0112 |
| detector, mse | 0.0349 ± 0.005 | 0.0282 | 0.0278 |

Earlier runs chose the form of two corrections, on the same judged samples as these tables or on
more of them. So the tables are no independent test of that choice.

| run | none | correction |
|---|---|---|
| detector, biases all at once, in 6 parts, in order | 0.0351 | 0.440, 0.694, 0.0256 |
| recognizer, 32 samples, the same | 0.0551 | 0.386, 1.31, 0.0396 |
| detector, equalization without a limit by biases | 0.0351 | 0.0331 |
| recognizer, 32 samples, the same | 0.0551 | 0.0830 |

So biases are corrected in order, and equalization has that limit, with which the detector is
worse. On the recognizer, bias correction gained with 32 samples and lost with 24: its intervals
are as wide as the differences.
"""


def main() -> None:
    """Measure the networks that the arguments name; write the page if they name none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "networks", nargs="*", metavar="network", help=", ".join(NETWORKS)
    )
    parser.add_argument(
        "--samples", type=int, default=32, help="samples to calibrate, and to judge"
    )
    given = parser.parse_args()
    about = machine.describe()
    machine.show(about)
    parts = []
    for key in given.networks or NETWORKS:
        part = [
            f"\n## {CASES[key].title}\n",
            "| correction | changed | loss | cosine |",
        ]
        part.append("|---" * 4 + "|")
        part += measure(CASES[key], given.samples)
        print("\n".join(part), flush=True)
        parts += part
    if not given.networks:
        line = (
            f"{about['processor']}, {about['cores']} cores, onnxruntime {ort.__version__}, "
            f"{about['date']}."
        )
        text = HEAD.format(machine=line, most=given.samples)
        PAGE.write_text(text + "\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
