"""The loss by both placements on real networks: docs/measurements/placement.md.

`python benches/python/placement.py` takes some minutes on two cores; names of networks run
these alone. Loss is the squared error of the outputs over their variance, on samples that
did not calibrate. Latencies are medians of runs in turns, so that a change of the machine's
speed meets all three models.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filetypes
import machine
import networks
import numpy as np
import onnx
import onnxruntime as ort
import speech

import quantcal as qc
from quantcal.demo import MODELS, LineSamples, render_lines
from quantcal.onnx._plan.cpu import weight_bits

Array = np.ndarray[Any, Any]
Feed = dict[str, Any]
STRATEGIES = ("mse", "percentile_99.99")
PLACEMENTS = ("stock", "minimal")
INTEGER = ("QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearConv")
FLOAT = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv")
DOCUMENT = Path(__file__).parents[2] / "docs" / "measurements" / "placement.md"


@dataclass(frozen=True)
class Case:
    """A network, its file, and its samples: the first half calibrates."""

    title: str
    model: Callable[[Path], Path]
    samples: Callable[[], list[Feed]]


def _lines() -> list[Feed]:
    feeds = list(LineSamples(render_lines(192, split="calibration")))
    return feeds[: len(feeds) // 2 * 2]


def _pages() -> list[Feed]:
    """Pages of drawn lines, as the detector sees them."""
    rows = [
        feed["x"][0] for feed in LineSamples(render_lines(512, split="calibration"))
    ]
    pages = []
    for first in range(0, len(rows) - 8, 8):
        page = np.ones((1, 3, 480, 640), np.float32)
        for index, row in enumerate(rows[first : first + 8]):
            width = min(row.shape[2], 600)
            top = 12 + 58 * index
            page[0, :, top : top + 48, 20 : 20 + width] = row[:, :, :width]
        pages.append({"x": page})
    return pages[:24]


def _files() -> list[Feed]:
    codes = [sample.codes for sample in filetypes.samples(256, seed=1)]
    return [{"bytes": np.stack(codes[i : i + 4])} for i in range(0, 256, 4)]


def _scenes() -> list[Feed]:
    return [scene.feed for scene in speech.scenes(24, seed=3)]


def _tokens() -> list[Feed]:
    """Windows of the language model's text."""
    sys.path.insert(0, str(networks.EXAMPLES))
    import pydoc_data.topics

    from gguf import GGUFReader
    from llm.smollm2 import read_tokenizer

    tokenizer = read_tokenizer(GGUFReader(MODELS["smollm2"].fetch()))
    text = "\n".join(pydoc_data.topics.topics.values())
    ids = np.array(tokenizer.encode(text[:120_000]).ids, dtype=np.int64)
    return [{"tokens": ids[None, i : i + 128]} for i in range(0, 24 * 128, 128)]


def export_language_model(path: Path) -> None:
    """Write SmolLM2 with a fixed length, rotary positions in real arithmetic."""
    sys.path.insert(0, str(networks.EXAMPLES))
    import torch
    from llm import smollm2

    complex_rotations = smollm2.rotations

    def rotations(length: int, config: Any) -> Any:
        return torch.view_as_real(complex_rotations(int(length), config))

    def rotate(x: Any, rotation: Any) -> Any:
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        cosine, sine = rotation.unbind(-1)
        turned = torch.stack([a * cosine - b * sine, a * sine + b * cosine], dim=-1)
        return turned.flatten(-2)

    def normalize(module: Any, x: Any) -> Any:
        mean = x.pow(2).mean(-1, keepdim=True)
        return x * torch.rsqrt(mean + module.eps) * module.weight

    smollm2.rotations, smollm2.rotate = rotations, rotate
    torch.nn.RMSNorm.forward = normalize  # the exporter has no operator for it
    model, _ = smollm2.load()
    tokens = torch.ones(1, 128, dtype=torch.long)
    torch.onnx.export(
        model,
        (tokens,),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["tokens"],
        output_names=["logits"],
    )


def _exported(folder: Path) -> Path:
    path = folder / "smollm2.onnx"
    command = [sys.executable, "-W", "ignore", __file__, "--export", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def _encoder(folder: Path) -> Path:
    path = networks.model_file("minilm", folder)
    assert path is not None
    return path


CASES = {
    "rec": Case("PP-OCRv4 recognizer", lambda _: MODELS["pp-ocr-rec"].fetch(), _lines),
    "det": Case("PP-OCRv4 detector", lambda _: MODELS["pp-ocr-det"].fetch(), _pages),
    "silero": Case(
        "silero, 16k_sequence",
        lambda _: MODELS["silero-16k-sequence"].fetch(),
        _scenes,
    ),
    "magika": Case("magika", lambda _: MODELS["magika"].fetch(), _files),
    "minilm": Case(
        "MiniLM sentence encoder, 6 blocks",
        _encoder,
        lambda: list(networks.sentences(32, (4, 128))),
    ),
    "smollm2": Case("SmolLM2-135M, 128 tokens", _exported, _tokens),
}


def session(path: Path, *, exact: bool = False) -> Any:
    """Open a model: Q/DQ nodes as written, or what the runtime makes of them here."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def kernels(path: Path, folder: Path) -> str:
    """Return the integer kernels among all matrix products and convolutions."""
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
    """Return the median time of each model in milliseconds, run one after the other."""
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
        model, samples = case.model(folder), case.samples()
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

Written by `benches/python/placement.py`; do not edit.
{machine}

*stock* rounds every result as onnxruntime's own quantizer does. *minimal*, the default, rounds
only what an integer kernel needs ([onnx.md](onnx.md)). Loss is the squared error of the outputs
over their variance, on samples that did not calibrate, with half of its 95 % interval. *Exact*
computes the written Q/DQ nodes in float, *native* is what onnxruntime runs on this machine.
Activations are uint8, weights int8 by channel. *Integer nodes* counts the fused kernels in the
graph that onnxruntime saves. Latency is the median of runs in turns on two threads.
"""


def main() -> None:
    """Measure what the arguments name, and write the document when all are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="network", help=", ".join(CASES))
    parser.add_argument("--seconds", type=float, default=12, help="of timing a network")
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.export:
        export_language_model(given.export)
        return
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
        DOCUMENT.write_text(HEAD.format(machine=line) + "\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
