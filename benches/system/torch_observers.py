"""Observers in PyTorch's flows, quantcal's and torch's own: accuracy, time, and overhead.

Trains two small networks first, in half a minute: convolutions that read noisy letters, and a
causal transformer that predicts the next byte of Python's manual. Each is prepared with an
observer for all activations (weights: torch's own, per channel), calibrated and converted, in
torchao's PT2E flow and in torch.ao's FX flow. Accuracy is that of the converted reference
graph: it depends on the ranges, not on a kernel.

    python -m benches.system.torch_observers [--times] [--smoke]
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import quantcal as qc

STRATEGIES = ("minmax", "percentile_99.99", "kl", "mse", "entropy", "hybrid")
NAMES = ("HistogramObserver", "MinMaxObserver", *STRATEGIES)  # torch's own first
CALIBRATION = 16  # batches


def main(smoke: bool, times: bool = False) -> None:
    try:
        import torch
        import torchao  # noqa: F401
    except ImportError:
        print(
            "skipped: torch or torchao is not installed; install them with `make torch`"
        )
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    torch.set_num_threads(1 if smoke else torch.get_num_threads())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for make in (letters, bytes_of_text):
        task = make(smoke or times)
        if not times:
            accuracy_table(task, smoke)
        time_table(task, smoke)
    overhead(smoke)


@dataclasses.dataclass
class Task:
    """A trained network with calibration and test data."""

    name: str
    model: Any
    calibration: list[Any]
    test: list[tuple[Any, Any]]

    def accuracy(self, model: Any) -> float:
        """Return the percentage of correct answers."""
        right = total = 0
        for x, y in self.test:
            found = model(x).argmax(-1)
            right += int((found == y).sum())
            total += y.numel()
        return 100 * right / total


def train(model: Any, batch_of: Callable[[], tuple[Any, Any]], steps: int) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        x, y = batch_of()
        loss = torch.nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().requires_grad_(requires_grad=False)


def letters(smoke: bool) -> Task:
    """Return convolutions trained on 26 letters with random shifts, contrast and noise."""
    import torch
    from PIL import Image, ImageDraw, ImageFont
    from torch import nn

    font = ImageFont.load_default(size=20)
    glyphs = []
    for letter in "abcdefghijklmnopqrstuvwxyz":
        image = Image.new("L", (28, 28))
        ImageDraw.Draw(image).text((8, 0), letter, fill=255, font=font)
        glyphs.append(np.asarray(image, dtype=np.float32) / 255)
    drawn = torch.from_numpy(np.stack(glyphs))[:, None]
    generator = torch.Generator().manual_seed(1)

    def batch_of(size: int = 64) -> tuple[Any, Any]:
        y = torch.randint(26, (size,), generator=generator)
        shifts = torch.randint(-4, 5, (size, 2), generator=generator).tolist()
        x = torch.stack(
            [torch.roll(drawn[k], s, (1, 2)) for k, s in zip(y, shifts, strict=True)]
        )
        contrast = torch.rand(size, 1, 1, 1, generator=generator) * 3 + 0.3
        noise = torch.randn(x.shape, generator=generator) * 0.45
        return contrast * (x + noise), y

    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 26)),
    )
    train(model, batch_of, 5 if smoke else 400)
    calibration = [batch_of()[0] for _ in range(CALIBRATION)]
    test = [batch_of() for _ in range(1 if smoke else 64)]
    return Task("convolutions, letters", model, calibration, test)


def bytes_of_text(smoke: bool) -> Task:
    """Return a causal transformer of two blocks, trained on the bytes of Python's manual."""
    from pydoc_data.topics import topics

    import torch
    from torch import nn

    text = "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")
    data = torch.from_numpy(np.frombuffer(text, dtype=np.uint8).astype(np.int64))
    length = 64
    cut = len(data) * 3 // 4
    generator = torch.Generator().manual_seed(1)

    class Block(nn.Module):
        def __init__(self, width: int = 64, heads: int = 4) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.q, self.k, self.v, self.out = (
                nn.Linear(width, width) for _ in range(4)
            )
            self.up, self.down = nn.Linear(width, 256), nn.Linear(256, width)

        def forward(self, x: Any) -> Any:
            h = self.norm1(x)
            q, k, v = (
                f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for f in (self.q, self.k, self.v)
            )
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).flatten(2))
            return x + self.down(torch.relu(self.up(self.norm2(x))))

    class Bytes(nn.Module):
        def __init__(self, width: int = 64) -> None:
            super().__init__()
            self.embedding = nn.Embedding(128, width)
            self.position = nn.Parameter(torch.randn(length, width) * 0.02)
            self.blocks = nn.Sequential(Block(), Block())
            self.head = nn.Linear(width, 128)

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(self.embedding(x) + self.position))

    def batch_of(first: int = 0, last: int = cut) -> tuple[Any, Any]:
        starts = torch.randint(first, last - length - 1, (32,), generator=generator)
        x = torch.stack([data[s : s + length + 1] for s in starts])
        return x[:, :-1], x[:, 1:]

    model = Bytes()
    train(model, batch_of, 5 if smoke else 500)
    calibration = [batch_of()[0] for _ in range(CALIBRATION)]
    test = [batch_of(cut, len(data)) for _ in range(1 if smoke else 32)]
    return Task("transformer, next byte", model, calibration, test)


@dataclasses.dataclass
class Prepared:
    """A model with observers, and the function that converts it."""

    model: Any
    convert: Callable[[Any], Any]


def accuracy_table(task: Task, smoke: bool) -> None:
    """Print the accuracy of the converted models of both flows."""
    print(f"\n{task.name}: float {task.accuracy(task.model):.2f} %")
    print(f"{'':8}{'observer':20}{'8 bits':>9}{'4 bits':>9}")
    for flow, prepare in FLOWS.items():
        for name in NAMES[: 3 if smoke else None]:
            cells = ""
            for bits in (8, 4):
                prepared = prepare(task, name, bits)
                calibrate(prepared.model, task)
                accuracy = task.accuracy(prepared.convert(prepared.model))
                cells += f"{accuracy:>8.2f}%"
            print(f"{flow:8}{name:20}{cells}", flush=True)


def time_table(task: Task, smoke: bool) -> None:
    """Print the time that observers add to calibration, and the time to choose ranges.

    Medians of rounds, in which the observers take turns.
    """
    prepared = {
        (flow, name): prepare(task, name, 8).model
        for flow, prepare in FLOWS.items()
        for name in NAMES[: 3 if smoke else None]
    }
    more: dict[tuple[str, str], list[float]] = {key: [] for key in prepared}
    choosing: dict[tuple[str, str], list[float]] = {key: [] for key in prepared}
    for _ in range(2 if smoke else 7):
        plain = calibrate(task.model, task)
        for key, model in prepared.items():
            more[key].append(calibrate(model, task) - plain)
    for key, model in prepared.items():
        for _ in range(1 if smoke else 3):
            choosing[key].append(ranges_of(model))
    print(f"\n{task.name}: {CALIBRATION} batches without observers {plain:.3f} s")
    print(f"{'':8}{'observer':20}{'seconds more':>14}{'ranges ms':>11}")
    for (flow, name), seconds in more.items():
        ranges = statistics.median(choosing[flow, name]) * 1e3
        print(f"{flow:8}{name:20}{statistics.median(seconds):>14.3f}{ranges:>11.1f}")


def calibrate(model: Any, task: Task) -> float:
    """Return the seconds of the calibration batches."""
    start = time.perf_counter()
    for batch in task.calibration:
        model(batch)
    return time.perf_counter() - start


def ranges_of(model: Any) -> float:
    """Return the seconds in which all observers choose their ranges."""
    chosen = [m for m in model.modules() if hasattr(m, "calculate_qparams")]
    start = time.perf_counter()
    for observer in chosen:
        observer.calculate_qparams()
    return time.perf_counter() - start


def pt2e(task: Task, name: str, bits: int) -> Prepared:
    """Prepare for torchao's PT2E flow."""
    import torch
    from torchao.quantization.pt2e import observer as stock
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config = x86.get_default_x86_inductor_quantization_config()
    spec = dataclasses.replace(
        config.input_activation,
        quant_max=2**bits - 1,
        observer_or_fake_quant_ctr=getattr(stock, name, stock.HistogramObserver),
    )
    config = dataclasses.replace(config, input_activation=spec, output_activation=spec)
    if name in STRATEGIES:
        config = qc.torch.attach_observer(config, name)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    exported = torch.export.export(task.model, (task.calibration[0],)).module()
    return Prepared(prepare_pt2e(exported, quantizer), convert_pt2e)


def fx(task: Task, name: str, bits: int) -> Prepared:
    """Prepare for torch.ao's FX flow."""
    import torch
    from torch.ao import quantization as ao
    from torch.ao.quantization.quantize_fx import convert_to_reference_fx, prepare_fx

    kind = getattr(ao, name, ao.HistogramObserver)
    activation = kind.with_args(dtype=torch.quint8, quant_min=0, quant_max=2**bits - 1)
    config = ao.QConfig(activation, ao.default_per_channel_weight_observer)
    if name in STRATEGIES:
        config = qc.torch.attach_observer(config, name)
    mapping = ao.QConfigMapping().set_global(config)
    model = copy.deepcopy(task.model)
    prepared = prepare_fx(model, mapping, (task.calibration[0],))
    return Prepared(prepared, convert_to_reference_fx)


FLOWS: dict[str, Callable[[Task, str, int], Prepared]] = {"PT2E": pt2e, "FX": fx}


def overhead(smoke: bool) -> None:
    """Time the linear layers of a 135M language model, with and without observation."""
    import torch
    from torch import nn

    width, ffn, tokens = 576, 1536, 64 if smoke else 512

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
            self.k, self.v = nn.Linear(width, 192), nn.Linear(width, 192)
            self.gate, self.up = nn.Linear(width, ffn), nn.Linear(width, ffn)
            self.down = nn.Linear(ffn, width)

        def forward(self, x: Any) -> Any:
            x = x + self.out(self.q(x) + (self.k(x) * self.v(x)).repeat(1, 1, 3))
            h = nn.functional.layer_norm(x, (width,))
            return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))

    model = nn.Sequential(*(Block() for _ in range(2 if smoke else 10))).eval()
    x = torch.randn(1, tokens, width)

    def run() -> float:
        start = time.perf_counter()
        with torch.no_grad():
            model(x)
        return time.perf_counter() - start

    plain, observed = [], []
    cal = qc.Calibrator()
    for _ in range(2 if smoke else 9):
        plain.append(run())
        with qc.torch.observe(model, calibrator=cal):
            observed.append(run())
    share = statistics.median(
        b / a for a, b in zip(plain[1:], observed[1:], strict=True)
    )
    print(
        f"\nlinear layers of a 135M language model, {len(cal)} inputs, {tokens} tokens: "
        f"{statistics.median(plain) * 1e3:.0f} ms, observed "
        f"{statistics.median(observed) * 1e3:.0f} ms ({share - 1:+.1%})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--smoke", action="store_true", help="small data, to check that it runs"
    )
    parser.add_argument(
        "--times", action="store_true", help="times only, with hardly trained networks"
    )
    options = parser.parse_args()
    main(options.smoke, options.times)
