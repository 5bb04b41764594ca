"""True SQNR of every strategy: writes the tables and pictures of `PAGE`.

`python -m benches.accuracy.sqnr` takes about two minutes. Errors are measured on raw values,
never on histograms. Seeds are fixed and nothing is timed, so every machine gives the same
figures to the digits shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np

import quantcal as qc
from benches.harness.process import DOCS
from quantcal.comparison.api import STRATEGIES
from quantcal.demo import SEED

PAGE = DOCS / "reference" / "strategies.md"
"""The page that is written, between two markers."""

IMAGES = DOCS / "images"
BEGIN = "<!-- measured: python -m benches.accuracy.sqnr -->"
END = "<!-- end of measured -->"

SIZE = 1_000_000
METHODS = {str(s): s for s in (*STRATEGIES, qc.ACIQ(approximation="closed_form"))}
FORMATS = ("int8", "uint8", "int4", "uint4", "float8_e4m3fn", "float4_e2m1fn")

Random = np.random.Generator
DISTRIBUTIONS: dict[str, Callable[[Random, int], np.ndarray]] = {
    "Gaussian": lambda r, n: r.standard_normal(n),
    "Laplace": lambda r, n: r.laplace(size=n),
    "Student-t(3)": lambda r, n: r.standard_t(3, n),
    "ReLU of Gaussian": lambda r, n: np.maximum(r.standard_normal(n), 0),
    "outliers": lambda r, n: (
        r.standard_normal(n) * np.where(r.random(n) < 1e-3, 50.0, 1.0)
    ),
}
LINES = {"calibration": 16, "evaluation": 8}


def decibels(signal: float, noise: float) -> float:
    return 10 * float(np.log10(signal / noise)) if noise else float("inf")


def sqnr(x: np.ndarray, params: qc.QuantParams) -> float:
    """Return the signal-to-quantization-noise ratio of raw values, in decibels."""
    reals = x.astype(np.float64)
    noise = params.fake_quantize(x) - reals
    return decibels(float(reals @ reals), float(noise @ noise))


def samples(size: int) -> dict[str, np.ndarray]:
    """Return float32 values of each distribution, with a seed for each."""
    return {
        name: draw(np.random.default_rng(number), size).astype(np.float32)
        for number, (name, draw) in enumerate(DISTRIBUTIONS.items())
    }


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def in_bold(rows: list[list[float]], digits: int = 1) -> list[list[str]]:
    """Format numbers; the maximum of each column, and what rounds to it, is bold."""
    written = [[f"{value:.{digits}f}" for value in row] for row in rows]
    most = [f"{max(column):.{digits}f}" for column in zip(*rows, strict=True)]
    return [
        [
            f"**{text}**" if text == best else text
            for text, best in zip(row, most, strict=True)
        ]
        for row in written
    ]


def synthetic(data: dict[str, np.ndarray]) -> tuple[list[str], dict]:
    """Return the SQNR tables of synthetic values, and their figures."""
    lines: list[str] = []
    found: dict = {}
    for name, x in data.items():
        histogram = qc.Histogram().observe(x)
        for format in FORMATS:
            for row in qc.compare(histogram, format, strategies=METHODS.values()):
                assert row.params is not None, row.error
                found[format, row.strategy, name] = sqnr(x, row.params)
    for format in FORMATS:
        figures = [[found[format, method, name] for name in data] for method in METHODS]
        rows = [
            [f"`{method}`", *cells]
            for method, cells in zip(METHODS, in_bold(figures), strict=True)
        ]
        lines += [f"### {qc.QuantFormat(format)}", "", *table(["dB", *data], rows), ""]
    return lines, found


def lost(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no negative zero


def distances(data: dict[str, np.ndarray], found: dict) -> list[str]:
    """Return the table of what the faster searches lose against `mse`."""
    lines = ["### Loss of the faster searches", ""]
    lines += ["Decibels below `mse`, on the same raw values.", ""]
    shortcuts = ["mse(newton)", "aciq", "aciq(closed_form)", "percentile_adaptive"]
    rows = [
        [
            f"`{method}`, {format}",
            *(lost(found[format, "mse", x] - found[format, method, x]) for x in data),
        ]
        for method in shortcuts
        for format in FORMATS[:4]
    ]
    return [*lines, *table(["dB below `mse`", *data], rows), ""]


def covered(data: dict[str, np.ndarray]) -> list[str]:
    """Return the table of what the adaptive percentile and `mse` cover."""
    lines = ["### What the adaptive percentile covers", ""]
    rows = []
    for name, x in data.items():
        histogram = qc.Histogram().observe(x)
        cells = [f"{histogram.kurtosis():.1f}"]
        for format in ("int8", "int4"):
            for strategy in (qc.Percentile(adaptive=True), qc.MSE()):
                high = strategy.range(histogram, qc.QuantFormat(format))[1]
                cells.append(f"{100 * np.mean(np.abs(x) <= high):.4f}")
        rows.append([name, *cells])
    heads = ["percent of the values", "kurtosis"]
    heads += [f"{m}, {f}" for f in ("int8", "int4") for m in ("adaptive", "`mse`")]
    return [*lines, *table(heads, rows), ""]


def activations(lines: list, names: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the raw activations of the recognizer, line by line."""
    import onnx
    import onnxruntime as ort

    model = onnx.load(str(qc.demo.RECOGNIZER.fetch()))
    inputs = {value.name for value in model.graph.input}
    have = {value.name for value in model.graph.output} | inputs
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in have
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    wanted = [name for name in names if name not in inputs]
    for feed in qc.demo.LineSamples(lines):
        found = dict(zip(wanted, session.run(wanted, feed), strict=True))
        yield {**found, **{name: feed[name] for name in names if name in inputs}}


def recognizer(counts: dict[str, int], *, only: int | None = None) -> list[str]:
    """Return the SQNR table of activations of text lines that were not observed."""
    lines = {
        split: qc.demo.render_lines(count, split=split, seed=SEED)
        for split, count in counts.items()
    }
    feeds = qc.demo.LineSamples(lines["calibration"])
    model = qc.demo.RECOGNIZER.fetch()
    calibrator = qc.onnx.observe(model, feeds)
    names = calibrator.names[:only]
    chosen = {}
    for format in FORMATS:
        comparison = qc.compare(
            calibrator, format, strategies=METHODS.values(), tensors=names
        )
        for row in comparison:
            chosen[format, row.strategy, row.tensor] = row.params
    signal = dict.fromkeys(names, 0.0)
    noise = dict.fromkeys(chosen, 0.0)
    for found in activations(lines["evaluation"], names):
        for name, x in found.items():
            reals = x.astype(np.float64)
            signal[name] += float((reals * reals).sum())
            for format in FORMATS:
                for method in METHODS:
                    key = format, method, name
                    error = chosen[key].fake_quantize(x) - reals
                    noise[key] += float((error * error).sum())
    live = [name for name in names if signal[name]]
    parts: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    for method in METHODS:
        for format in FORMATS:
            figures = [decibels(signal[n], noise[format, method, n]) for n in live]
            parts[method].append([float(np.median(figures)), min(figures)])
    flat = [[value for pair in parts[method] for value in pair] for method in METHODS]
    rows = []
    for method, cells in zip(METHODS, in_bold(flat), strict=True):
        pairs = [f"{cells[i]} / {cells[i + 1]}" for i in range(0, len(cells), 2)]
        rows.append([f"`{method}`", *pairs])
    return [
        f"### PP-OCRv4 text recognizer, {len(live)} tensors",
        "",
        f"Ranges from {counts['calibration']} lines of text; SQNR of the raw activations of "
        f"{counts['evaluation']} other lines: median / worst tensor, in dB.",
        "",
        *table(["dB", *FORMATS], rows),
        "",
    ]


def pictures(data: dict[str, np.ndarray]) -> None:
    """Draw the pictures of the page."""
    from matplotlib.figure import Figure

    for file, name, format in (
        ("gaussian-int8.png", "Gaussian", "int8"),
        ("heavy-tail-int4.png", "Student-t(3)", "int4"),
        ("relu-uint8.png", "ReLU of Gaussian", "uint8"),
    ):
        figure = Figure(figsize=(9.0, 6.2), layout="constrained")
        qc.compare(data[name], format).plot(figure.subplots())
        figure.savefig(IMAGES / file, dpi=90, metadata={"Software": None})


def main(*, smoke: bool) -> None:
    """Measure and write the page; `smoke` takes few values and prints the tables."""
    data = samples(20_000 if smoke else SIZE)
    tables, found = synthetic(data)
    tables += distances(data, found) + covered(data)
    counts = {"calibration": 1, "evaluation": 1} if smoke else LINES
    tables += recognizer(counts, only=5 if smoke else None)
    if smoke:
        print("\nSQNR of every strategy", *tables, sep="\n")
        return
    head, rest = PAGE.read_text("utf-8").split(BEGIN)
    _, tail = rest.split(END)
    text = "\n".join([head.rstrip("\n"), "", BEGIN, "", *tables, END]) + tail
    PAGE.write_text(text, "utf-8")
    pictures(data)
    print(f"Written to {PAGE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="few values; print, write nothing"
    )
    main(smoke=parser.parse_args().smoke)
