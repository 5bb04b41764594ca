"""The cost of observing SmolLM2-135M with hooks: time of a forward pass, and peak memory.

`python -m benches.system.observing_torch [rounds]`. Observes the inputs of all linear layers in
windows of 512 random tokens. A plain forward, observed ones, and one with torch's
HistogramObserver take turns in one process. Each peak is measured in a fresh process.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.process import ROOT, command

PLAIN, PEER = "plain", "torch HistogramObserver"
AXES = {"observed": None, "observed by channel": -1}
WINDOWS = (1, 8, 64)


def _model(smoke: bool) -> tuple[Any, Any]:
    """Return the model, and the tokens of a window."""
    import torch

    from research.llm.smollm2 import Config, LlamaForCausalLM, load

    if smoke:
        config = Config(
            layers=2, width=64, ffn_width=96, heads=4, kv_heads=2, vocabulary=100
        )
        model = LlamaForCausalLM(config).eval()
    else:
        model, _ = load()
    size = model.model.config.vocabulary
    generator = torch.Generator().manual_seed(0)
    return model, torch.randint(size, (1, 32 if smoke else 512), generator=generator)


def _histogram_observers(model: Any) -> Callable[[], Any]:
    """Return a context in which torch's observers see the inputs of all linear layers."""
    import torch
    from torch.ao.quantization.observer import HistogramObserver

    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        observers = [HistogramObserver(dtype=torch.quint8) for _ in linear]

    @contextlib.contextmanager
    def observed() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for module, observer in zip(linear, observers, strict=True):
                handle = module.register_forward_pre_hook(
                    lambda _, args, observer=observer: (observer(args[0]), None)[1]
                )
                stack.callback(handle.remove)
            yield

    return observed


def _interleaved(
    contexts: dict[str, Callable[[], Any]], run: Callable[[], object], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of a run in each context, in turns, without the first round."""
    seconds: dict[str, list[float]] = {name: [] for name in contexts}
    for round in range(rounds + 1):
        for name, context in contexts.items():
            with context():
                start = time.perf_counter()
                run()
                if round:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def _times(sheet: Sheet, smoke: bool, rounds: int) -> None:
    import torch

    model, tokens = _model(smoke)
    calibrators = {name: qc.Calibrator() for name in AXES}
    contexts: dict[str, Callable[[], Any]] = {PLAIN: contextlib.nullcontext}
    for name, axis in AXES.items():
        contexts[name] = lambda axis=axis, name=name: qc.torch.observe(
            model, axis=axis, calibrator=calibrators[name]
        )
    contexts[PEER] = _histogram_observers(model)
    with torch.no_grad():
        seconds = _interleaved(contexts, lambda: model(tokens), rounds)
    work = (
        f"SmolLM2-135M, {tokens.numel()} tokens, {len(calibrators['observed'])} inputs"
    )
    sheet.add(work, PLAIN, seconds[PLAIN], unit="s")
    plain = np.array(seconds[PLAIN])
    for name in (*AXES, PEER):
        more = 100 * (np.array(seconds[name]) / plain - 1)
        target = 25 if name in AXES else None
        sheet.add(work, name, more.tolist(), unit="% more", at_most=target)


def peak(name: str, windows: int, smoke: bool) -> None:
    """Run windows in this process; print its peak memory and the histograms' size, in MB."""
    import torch

    from quantcal.onnx.result import peak_memory

    model, tokens = _model(smoke)
    context = contextlib.nullcontext()
    if name in AXES:
        context = qc.torch.observe(model, axis=AXES[name])
    with torch.no_grad(), context as cal:
        for window in range(windows):
            model((tokens + 7919 * window) % model.model.config.vocabulary)
    held = 0 if cal is None else cal.nbytes
    print(json.dumps({"peak": (peak_memory() or 0) / 1e6, "held": held / 1e6}))


def _memory(sheet: Sheet, smoke: bool) -> None:
    for name in (PLAIN, *AXES):
        found = {}
        for windows in (1, 2, 3) if smoke else WINDOWS:
            child = command("benches.system.observing_torch", name, windows, int(smoke))
            done = subprocess.run(
                child, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
            )
            found[windows] = json.loads(done.stdout)
            of = f"{name}, {windows} window{'s' * (windows > 1)}"
            sheet.add(of, "peak", [found[windows]["peak"]], unit="MB")
            if name in AXES:
                sheet.add(of, "histograms", [found[windows]["held"]], unit="MB")
        _, some, many = (case["peak"] for case in found.values())
        sheet.add(
            f"{name}, most windows over fewer",
            "peak",
            [many / some],
            unit="×",
            at_most=1.1,
        )


def main(*, smoke: bool, rounds: int = 9) -> Sheet | None:
    """Time forward passes in turns and measure peaks; `smoke` takes a tiny model."""
    try:
        import torch  # noqa: F401
    except ImportError:
        print("skipped: torch is not installed; install it with `make torch`")
        return None
    sheet = Sheet("hooks")
    _times(sheet, smoke, 2 if smoke else rounds)
    _memory(sheet, smoke)
    return sheet


if __name__ == "__main__":
    if len(sys.argv) == 4:
        peak(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
    else:
        from benches.harness import machine

        machine.show(machine.describe())
        found = main(smoke=False, rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 9)
        if found is not None:
            found.show()
