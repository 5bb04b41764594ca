"""Accuracy loss and latency of both Q/DQ placements on real networks: writes `PAGE`.

`python -m benches.accuracy.placement` takes some minutes on two cores. Names of networks run
only these and write nothing. Loss is the squared error of the outputs over their variance, on
samples that were not used for calibration. Latencies are medians of runs in turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

import quantcal as qc
from benches.accuracy import file_types, speech
from benches.accuracy.collection import drawings
from benches.harness import machine, networks
from benches.harness.process import DOCS
from quantcal.demo import LineSamples, render_lines
from quantcal.onnx._options.cpu import weight_bits
from tests.models import MODELS
from tests.models.export import LENGTH, onnx_file

Array = np.ndarray[Any, Any]
Feed = dict[str, Any]
STRATEGIES = ("mse", "percentile_99.99")
PLACEMENTS = ("stock", "minimal")
INTEGER = ("QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearConv")
FLOAT = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv")
PAGE = DOCS / "measurements" / "placement.md"
"""The page that is written."""


@dataclass(frozen=True)
class Case:
    """A network, its name in the registry, and its samples: the first half calibrates."""

    title: str
    model: str
    samples: Callable[[], list[Feed]]


def _lines() -> list[Feed]:
    feeds = list(LineSamples(render_lines(192, split="calibration")))
    return feeds[: len(feeds) // 2 * 2]


def _pages() -> list[Feed]:
    return [{"x": page} for page in drawings.pages_of_lines(24, "calibration")]


def _files() -> list[Feed]:
    codes = [sample.codes for sample in file_types.samples(256, seed=1)]
    return [{"bytes": np.stack(codes[i : i + 4])} for i in range(0, 256, 4)]


def _scenes() -> list[Feed]:
    return [scene.feed for scene in speech.scenes(24, seed=3)]


def _tokens() -> list[Feed]:
    """Return windows of Python's manual, as the language model reads them."""
    import pydoc_data.topics

    from gguf import GGUFReader

    from research.llm.smollm2 import read_tokenizer

    tokenizer = read_tokenizer(GGUFReader(MODELS["smollm2"].fetch()))
    text = "\n".join(pydoc_data.topics.topics.values())
    ids = np.array(tokenizer.encode(text[:120_000]).ids, dtype=np.int64)
    starts = range(0, 24 * LENGTH, LENGTH)
    return [{"tokens": ids[None, i : i + LENGTH]} for i in starts]


CASES = {
    "rec": Case("PP-OCRv4 recognizer", "pp-ocr-rec", _lines),
    "det": Case("PP-OCRv4 detector", "pp-ocr-det", _pages),
    "silero": Case("silero, 16k_sequence", "silero-16k-sequence", _scenes),
    "magika": Case("magika", "magika", _files),
    "minilm": Case(
        "MiniLM sentence encoder, 6 blocks",
        "minilm",
        lambda: list(networks.sentences(32, (4, 128))),
    ),
    "smollm2": Case("SmolLM2-135M, 128 tokens", "smollm2", _tokens),
}


def session(path: Path, *, exact: bool = False) -> Any:
    """Open a model, with its Q/DQ nodes as written or fused into integer kernels."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def kernels(path: Path, folder: Path) -> str:
    """Return how many matrix products and convolutions are integer kernels."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    found = Counter(node.op_type for node in graph.node)
    integer = sum(found[kind] for kind in INTEGER)
    return f"{integer} of {integer + sum(found[kind] for kind in FLOAT)}"


def losses(path: Path, feeds: list[Feed], right: list[list[Array]]) -> dict[str, Array]:
    """Return the loss of each sample in exact and in native arithmetic."""
    found = {}
    for how in ("exact", "native"):
        opened = session(path, exact=how == "exact")
        rows = []
        for feed, outputs in zip(feeds, right, strict=True):
            made = opened.run(None, feed)
            rows.append(
                np.mean(
                    [
                        float(((a - b) ** 2).mean()) / max(float(b.var()), 1e-30)
                        for a, b in zip(made, outputs, strict=True)
                        if b.dtype == np.float32
                    ]
                )
            )
        found[how] = np.array(rows)
    return found


def interval(rows: Array) -> float:
    """Return half of the 95 % interval of the mean, by bootstrap over samples."""
    generator = np.random.default_rng(0)
    drawn = generator.choice(rows, (1000, len(rows))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(high - low) / 2


def turns(paths: dict[str, Path], feed: Feed, seconds: float) -> dict[str, float]:
    """Return the median time of each model in milliseconds, run in turns."""
    opened = {name: session(path) for name, path in paths.items()}
    times: dict[str, list[float]] = {name: [] for name in opened}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["float"]) < 9:
        for name, one in opened.items():
            start = time.perf_counter()
            one.run(None, feed)
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(rows[2:])) for name, rows in times.items()}


def measure(case: Case, seconds: float) -> Iterator[str]:
    """Yield the rows of one network's table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, samples = onnx_file(case.model, folder), case.samples()
        half = len(samples) // 2
        given, judged = samples[:half], samples[half:]
        opened = session(model)
        right = [opened.run(None, feed) for feed in judged]
        del opened
        table: dict[str, list[str]] = {}
        paths = {"float": model}
        for placement in PLACEMENTS:
            calibrator = qc.onnx.observe(model, given, placement=placement)
            for strategy in STRATEGIES:
                path = folder / f"{placement}.onnx"
                qc.onnx.quantize(
                    model,
                    path,
                    calibrator=calibrator,
                    strategy=strategy,
                    placement=placement,
                    progress=False,
                )
                if strategy == STRATEGIES[0]:
                    paths[placement] = folder / f"timed.{placement}.onnx"
                    paths[placement].write_bytes(path.read_bytes())
                    table[placement] = [kernels(path, folder)]
                found = losses(path, judged, right)
                table[placement] += [
                    f"{rows.mean():.2g} ± {interval(rows):.1g}"
                    for rows in found.values()
                ]
        latency = turns(paths, judged[0], seconds)
        yield f"| float model | | | | | | {latency['float']:.1f} |"
        for placement, cells in table.items():
            row = " | ".join([*cells, f"{latency[placement]:.1f}"])
            yield f"| {placement} | {row} |"


HEAD = """# Where activations are rounded, measured

Written by `python -m benches.accuracy.placement`; do not edit.
{machine}

*stock* quantizes every result, as onnxruntime's own quantizer does. *minimal*, the default,
quantizes only what an integer kernel needs ([onnx.md](onnx.md)). Loss is the squared error of
the outputs over their variance, on samples that were not used for calibration, with half of its
95 % interval. *Exact* computes the written Q/DQ nodes in float. *Native* is what onnxruntime
runs on this machine. Activations are uint8, weights int8 by channel. *Integer nodes* counts the
fused kernels in the graph that onnxruntime saves. Latency is the median of runs in turns on two
threads.
"""


def main() -> None:
    """Measure the networks that the arguments name; write the page if they name none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="network", help=", ".join(CASES))
    parser.add_argument(
        "--seconds",
        type=float,
        default=12,
        help="time to measure latencies of a network",
    )
    given = parser.parse_args()
    about = machine.describe()
    machine.show(about)
    parts = []
    for key in given.networks or CASES:
        case = CASES[key]
        first, second = (f"{s}, {{}}" for s in STRATEGIES)
        titles = [
            text.format(how) for text in (first, second) for how in ("exact", "native")
        ]
        part = [f"\n## {case.title}\n"]
        part.append(f"| placement | integer nodes | {' | '.join(titles)} | ms |")
        part.append("|---" * 7 + "|")
        part += measure(case, given.seconds)
        print("\n".join(part), flush=True)
        parts += part
    if not given.networks:
        reason = weight_bits().reason
        line = (
            f"{about['processor']}, {about['cores']} cores, onnxruntime {ort.__version__}, "
            f"{about['date']}. {reason[:1].upper()}{reason[1:]}."
        )
        PAGE.write_text(HEAD.format(machine=line) + "\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
