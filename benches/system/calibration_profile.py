"""Where the time of calibrating PP-OCR goes: inference, counting, the rest, searching.

`python -m benches.system.calibration_profile` prints it for the recognizer and the detector.

`observe` reads its samples from a generator. Before each observed pass, the generator runs the
same graph on all samples without observation. So plain and observed passes are timed in turns
inside one call. A sample's time is the median of its passes without the first. The rest of the
call is rewriting the graph, opening sessions, and the extra time of the first pass. Counting is
timed again alone, on the tensors of the same samples. quantcal's own share is the time that
observation adds to inference.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import quantcal as qc
from benches.harness import machine, networks
from benches.harness.figures import Sheet, number
from benches.harness.timing import interleave
from quantcal.demo.lines import render_lines
from quantcal.demo.ocr import LineSamples
from quantcal.onnx.quantizer import QuantizeResult
from tests.models import MODELS

ROUNDS = 9
"""Timed passes, after one that is not counted."""

SHARE = 15.0  # percent of the observation time that may be quantcal's own

PAUSE = 0.05
"""Seconds between two passes, after which onnxruntime's threads no longer spin."""

Samples = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of the parts of one observation."""

    once: float  # rewriting the graph, opening sessions, extra time of the first pass
    one_pass: float  # all samples
    inference: float
    counting: float

    @property
    def total(self) -> float:
        return self.once + self.one_pass

    @property
    def own(self) -> float:
        return max(0.0, self.one_pass - self.inference)

    def show(self, name: str, samples: int) -> None:
        """Print the parts and their shares."""
        print(f"\n{name}, {samples} samples: {self.total:.2f} s of observation")
        rest = self.own - self.counting
        for part, seconds in (
            ("inference, nothing observed", self.inference),
            ("rewriting the graph, opening sessions", self.once),
            ("quantcal's own, and of this", self.own),
            ("    counting, done again alone", self.counting),
            ("    the rest: Python, passing tensors", rest),
        ):
            each = number(seconds / samples * 1e3)
            share = 100 * seconds / self.total
            print(f"  {part:<42} {share:5.1f} %  {each:>8} ms a sample")
        if rest < 0:
            print("  (counting costs less during inference than alone)")


def detector(*, smoke: bool) -> tuple[Path, Samples]:
    """Return the detector and images for it."""
    network = networks.NETWORKS["pp-ocr-det"]
    count, shape = (1, network.small) if smoke else (8, network.shape)
    return MODELS["pp-ocr-det"].fetch(), list(network.feeds(count, shape))


def recognizer(*, smoke: bool) -> tuple[Path, Samples]:
    """Return the recognizer, and text lines as the demo observes them."""
    lines = render_lines(2 if smoke else 24, split="calibration")
    return MODELS["pp-ocr-rec"].fetch(), list(LineSamples(lines))


NETWORKS = {"PP-OCRv4 recognizer": recognizer, "PP-OCRv4 detector": detector}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Seconds of one call of `observe`, and of plain inference in between."""

    observed: list[list[float]]  # by pass and sample
    plain: list[list[float]]
    rest: float  # of the call

    def passes(self, rounds: list[list[float]]) -> list[float]:
        """Return the seconds of each pass without the first."""
        return [sum(samples) for samples in rounds[1:]]

    def one_pass(self, rounds: list[list[float]]) -> float:
        """Return the seconds of a pass: the sum of its samples' medians."""
        return sum(map(statistics.median, zip(*rounds[1:], strict=True)))

    def shares(self) -> list[float]:
        """Return the part of each observed pass that exceeds inference."""
        beside = zip(self.passes(self.observed), self.passes(self.plain), strict=True)
        return [1 - plain / observed for observed, plain in beside]


def pairs(
    path: Path, feeds: Samples, infer: Callable[[Any], Any], passes: int
) -> Pairs:
    """Observe `feeds` in several passes, with plain inference of all before each."""
    observed: list[list[float]] = []
    plain: list[list[float]] = []
    inside = 0.0

    def samples() -> Iterator[dict[str, Any]]:
        nonlocal inside
        for _ in range(1 + passes):
            observed.append([])
            plain.append([])
            entered = time.perf_counter()
            for feed in feeds:
                start = time.perf_counter()
                infer(feed)
                plain[-1].append(time.perf_counter() - start)
            time.sleep(PAUSE)
            inside += time.perf_counter() - entered
            for feed in feeds:
                handed = time.perf_counter()
                yield feed
                now = time.perf_counter()
                observed[-1].append(now - handed)
                inside += now - handed

    start = time.perf_counter()
    qc.onnx.observe(path, samples(), progress=False)
    return Pairs(observed, plain, time.perf_counter() - start - inside)


def measure(
    path: Path, feeds: Samples, *, rounds: int
) -> tuple[Pairs, dict[str, list[float]]]:
    """Time observation and inference in turns, then optimized inference, then counting."""
    import onnx

    model = onnx.load(path)
    made = {name for node in model.graph.node for name in node.output}
    names = qc.onnx.observe(path, feeds[:1]).names
    inner = [name for name in names if name in made]
    threads = qc.get_num_threads()
    plain, deployed = _session(model), _session(model, optimize=True)
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    del extended.graph.output[:]
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    samples = _tensors(_session(extended), inner, feeds)

    def infer() -> None:
        for feed in feeds:
            deployed.run(None, feed)

    found = pairs(path, feeds, lambda feed: plain.run(None, feed), rounds)
    seconds = interleave({"deployed": infer}, rounds=3, threads={"deployed": threads})
    seconds["counting"] = _counting(samples, feeds, min(rounds, 3), threads)
    return found, seconds


def _session(model: Any, *, optimize: bool = False) -> Any:
    """Open a model as users run it, or as observation runs it.

    Without optimization, each tensor of the graph exists; without an arena, memory does not
    stay at the largest sample's. quantcal chooses both when it observes.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    content = model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _tensors(session: Any, names: list[str], feeds: Samples) -> Callable[[int], dict]:
    def of(sample: int) -> dict[str, Any]:
        found = session.run(names, feeds[sample])
        return {**feeds[sample], **dict(zip(names, found, strict=True))}

    return of


def _counting(
    tensors: Callable[[int], dict], feeds: Samples, rounds: int, threads: int
) -> list[float]:
    """Return the seconds of counting a pass; one sample's tensors are alive at a time."""
    totals = [0.0] * rounds
    cal = qc.Calibrator()
    for sample in range(len(feeds)):
        arrays = tensors(sample)

        def count(arrays: dict = arrays) -> None:
            for name, array in arrays.items():
                cal.observe(name, array)

        work = {"counting": count}
        times = interleave(work, rounds=rounds, threads={"counting": threads})
        totals = [a + b for a, b in zip(totals, times["counting"], strict=True)]
    return totals


def parts(found: Pairs, counting: Sequence[float]) -> Parts:
    """Return the parts of one observation."""
    one_pass = found.one_pass(found.observed)
    first = sum(found.observed[0])
    once = found.rest + max(0.0, first - one_pass)
    inference = found.one_pass(found.plain)
    return Parts(once, one_pass, inference, statistics.median(counting))


def _whole_job(path: Path, feeds: Samples) -> QuantizeResult:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "int8.onnx"
        return qc.onnx.quantize(path, output, feeds, strategy="mse", progress=False)


def main(*, smoke: bool) -> Sheet:
    """Profile both networks."""
    sheet = Sheet("ocr")
    rounds = 1 if smoke else ROUNDS
    for name, network in NETWORKS.items():
        path, feeds = network(smoke=smoke)
        timed, seconds = measure(path, feeds, rounds=rounds)
        found = parts(timed, seconds["counting"])
        found.show(name, len(feeds))
        job = _whole_job(path, feeds)
        print(
            f"  the whole job: observation {job.seconds_observe:.2f} s, searches (mse, "
            f"uint8) {job.seconds_compute:.2f} s, writing {job.seconds_write:.2f} s, for "
            f"{job.tensors_observed} tensors"
        )
        _figures(sheet, name, timed, seconds, found, len(feeds))
        sheet.add(name, "searches, mse", [job.seconds_compute], unit="s")
        sheet.add(name, "writing the model", [job.seconds_write], unit="s")
    return sheet


def _figures(
    sheet: Sheet,
    name: str,
    timed: Pairs,
    seconds: dict[str, list[float]],
    found: Parts,
    samples: int,
) -> None:
    per = samples * 1e-3
    plain = timed.passes(timed.plain)
    passes = timed.passes(timed.observed)
    beside = ("inference, same graph", plain)
    for how, times, yardstick in (
        ("inference, optimized", seconds["deployed"], None),
        ("inference, same graph", plain, None),
        ("observing", passes, beside),
        ("counting alone", seconds["counting"], None),
    ):
        sheet.add(name, how, times, unit="ms/sample", per=per, yardstick=yardstick)
    sheet.add(name, "rewriting, once", [found.once], unit="s")
    shares = timed.shares()
    for how, whole in (
        ("quantcal's own, of observing", found.total),
        (
            "quantcal's own, of a later pass",
            found.one_pass,
        ),  # the limit for many samples
    ):
        part = 100 * found.one_pass / whole
        each = [part * share for share in shares]
        sheet.add(name, how, each, unit="%", at_most=SHARE)


if __name__ == "__main__":
    machine.show(machine.describe())
    main(smoke=False).show()
