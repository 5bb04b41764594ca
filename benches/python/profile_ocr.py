"""Where the time goes when PP-OCR is calibrated: inference, counting, the rest, searching.

`python benches/python/profile_ocr.py` shows it for the text-line recogniser and the detector.

However the tensors are observed, the parts are told apart from outside. One pass over the
samples is what each further pass adds to the time of `observe`; what is left of the first is
rewriting the graph and opening sessions. Inference is the same graph with nothing observed;
counting is done again, alone, on the tensors of the same samples. quantcal's own share is
all but inference and rewriting.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import networks
from figures import Sheet, number
from timing import interleave

import quantcal as qc
from quantcal.demo.fetch import MODELS
from quantcal.demo.lines import render_lines
from quantcal.demo.ocr import LineFeeds
from quantcal.onnx.quantizer import QuantizeResult

SHARE = 15.0  # per cent of observation time that may be quantcal's own

MORE = 3  # passes, whose mean is one pass

Feeds = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of the parts of one observation, from medians."""

    once: float  # rewriting the graph, opening sessions, measuring sizes
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
        """Print the parts with their shares."""
        print(f"\n{name}, {samples} samples: {self.total:.2f} s of observation")
        rest = self.own - self.counting
        for part, seconds in (
            ("inference, nothing observed", self.inference),
            ("rewriting the graph, opening sessions", self.once),
            ("quantcal's own, and of this", self.own),
            ("    counting, done again alone", self.counting),
            ("    the rest: Python, handing tensors over", rest),
        ):
            each = number(seconds / samples * 1e3)
            share = 100 * seconds / self.total
            print(f"  {part:<42} {share:5.1f} %  {each:>8} ms a sample")
        if rest < 0:
            print("  (counting beside inference costs less than alone)")


def detector(*, smoke: bool) -> tuple[Path, Feeds]:
    """Return the detector and images for it."""
    network = networks.NETWORKS["pp-ocr-det"]
    count, shape = (1, network.small) if smoke else (8, network.shape)
    return MODELS["pp-ocr-det"].fetch(), list(network.feeds(count, shape))


def recogniser(*, smoke: bool) -> tuple[Path, Feeds]:
    """Return the recogniser and lines like those that the demo observes, one at a time."""
    lines = render_lines(2 if smoke else 24, split="calibration")
    return MODELS["pp-ocr-rec"].fetch(), list(LineFeeds(lines))


NETWORKS = {"PP-OCRv4 recogniser": recogniser, "PP-OCRv4 detector": detector}


def measure(path: Path, feeds: Feeds, *, rounds: int) -> dict[str, list[float]]:
    """Time observation with one and more passes beside inference and counting, in turns."""
    import onnx

    model = onnx.load(path)
    made = {name for node in model.graph.node for name in node.output}
    names = qc.onnx.observe(path, feeds[:1]).names
    inner = [name for name in names if name in made]
    threads = qc.get_num_threads()
    plain, deployed = _session(model), _session(model, optimise=True)
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    del extended.graph.output[:]
    extended.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    samples = _tensors(_session(extended), inner, feeds)

    def infer(session: Any) -> Callable[[], None]:
        def run() -> None:
            for feed in feeds:
                session.run(None, feed)

        return run

    todo = {
        "one pass": lambda: qc.onnx.observe(path, feeds),
        "more passes": lambda: qc.onnx.observe(path, [*feeds] * (1 + MORE)),
        "inference": infer(plain),
        "deployed": infer(deployed),
    }
    many = dict.fromkeys(todo, threads)
    seconds = interleave(todo, rounds=rounds, threads=many)
    seconds["counting"] = _counting(samples, feeds, rounds, threads)
    return seconds


def _session(model: Any, *, optimise: bool = False) -> Any:
    """Open a model as users run it, or as it must be run to be observed.

    Without optimisation, each tensor of the graph exists; without an arena, memory does not
    stay at the largest sample's. quantcal chooses both when it observes.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    content = model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _tensors(session: Any, names: list[str], feeds: Feeds) -> Callable[[int], dict]:
    def of(sample: int) -> dict[str, Any]:
        found = session.run(names, feeds[sample])
        return {**feeds[sample], **dict(zip(names, found, strict=True))}

    return of


def _counting(
    tensors: Callable[[int], dict], feeds: Feeds, rounds: int, threads: int
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


def parts(seconds: dict[str, list[float]]) -> Parts:
    """Tell the parts apart."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    one_pass = max(1e-9, (median["more passes"] - median["one pass"]) / MORE)
    once = max(0.0, median["one pass"] - one_pass)
    return Parts(once, one_pass, median["inference"], median["counting"])


def _whole_job(path: Path, feeds: Feeds) -> QuantizeResult:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "int8.onnx"
        return qc.onnx.quantize(path, output, feeds, progress=False)


def main(*, smoke: bool) -> Sheet:
    """Profile both networks."""
    sheet = Sheet("calibrating PP-OCR")
    rounds = 1 if smoke else 3
    for name, network in NETWORKS.items():
        path, feeds = network(smoke=smoke)
        seconds = measure(path, feeds, rounds=rounds)
        found = parts(seconds)
        found.show(name, len(feeds))
        job = _whole_job(path, feeds)
        print(
            f"  the whole job: observation {job.seconds_observe:.2f} s, searches (mse, "
            f"uint8) {job.seconds_compute:.2f} s, writing {job.seconds_write:.2f} s, for "
            f"{job.tensors_observed} tensors"
        )
        _figures(sheet, name, seconds, found, len(feeds))
        sheet.add(name, "searches, mse", [job.seconds_compute], unit="s")
        sheet.add(name, "writing the model", [job.seconds_write], unit="s")
    return sheet


def _figures(
    sheet: Sheet,
    name: str,
    seconds: dict[str, list[float]],
    found: Parts,
    samples: int,
) -> None:
    per = samples * 1e-3
    names = {"deployed": "inference, optimised", "inference": "inference, same graph"}
    for key, how in names.items():
        sheet.add(name, how, seconds[key], unit="ms/sample", per=per)
    passes = [
        (more - one) / MORE
        for one, more in zip(seconds["one pass"], seconds["more passes"], strict=True)
    ]
    beside = ("inference, same graph", seconds["inference"])
    sheet.add(name, "observing", passes, unit="ms/sample", per=per, yardstick=beside)
    sheet.add(name, "counting alone", seconds["counting"], unit="ms/sample", per=per)
    sheet.add(name, "rewriting, once", [found.once], unit="s")
    for how, whole in (
        ("quantcal's own, of observing", found.total),
        ("the same, of a pass alone", found.one_pass),  # what many samples come to
    ):
        sheet.add(name, how, [100 * found.own / whole], unit="%", at_most=SHARE)


if __name__ == "__main__":
    machine.show(machine.describe())
    main(smoke=False).show()
