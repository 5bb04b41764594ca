"""The range that each tool's "KL" chooses, and its error: rewrites the table of `PAGE`.

    python -m benches.accuracy.kl

The data are seeded values of five distributions, and two activations of the demo's text
recognizer. Each histogram is made as its tool makes it from a single batch. Each range is
scored as symmetric int8 on the raw data, against the best of a scan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import quantcal as qc
from benches.harness.process import DOCS
from quantcal import compat

Floats = NDArray[np.float32]

PAGE = DOCS / "reference" / "kl.md"
"""The page whose table is rewritten, between two markers."""

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COUNT = 1 << 20
SEED = 0
LINES = 16
TENSORS = {
    "PP-OCR batch norm": "batch_norm_5.tmp_2",
    "PP-OCR hard swish": "p2o.Add.179",
}


def synthetic() -> dict[str, Floats]:
    """Return a million values of each distribution."""
    rng = np.random.default_rng(SEED)
    mixed = rng.standard_normal(COUNT)
    mixed[: COUNT // 1000] *= 20  # one value in a thousand is an outlier
    data = {
        "Gauss": rng.standard_normal(COUNT),
        "Laplace": rng.laplace(size=COUNT),
        "Student-t(3)": rng.standard_t(3, COUNT),
        "ReLU of Gauss": np.maximum(rng.standard_normal(COUNT), 0),
        "Gauss, 0.1 % outliers": mixed,
    }
    return {name: values.astype(np.float32) for name, values in data.items()}


def activations() -> dict[str, Floats]:
    """Return all values of two tensors of the recognizer, over drawn lines of text."""
    import onnx
    import onnxruntime as ort

    from quantcal.demo import RECOGNIZER, LineSamples, render_lines

    model = onnx.load(RECOGNIZER.fetch())
    for tensor in TENSORS.values():
        model.graph.output.add().name = tensor
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = list(TENSORS.values())
    feeds = LineSamples(render_lines(LINES, split="calibration"))
    runs = [session.run(names, feed) for feed in feeds]
    return {
        title: np.concatenate([run[i].ravel() for run in runs])
        for i, title in enumerate(TENSORS)
    }


def signed(x: Floats, num_bins: int) -> tuple[Any, Any]:
    """Return the histogram over [-T, T]."""
    end = float(np.abs(x).max())
    return np.histogram(x, num_bins, range=(-end, end))


def magnitude(x: Floats) -> tuple[Any, Any]:
    """Return the histogram of |x| over [0, T], 2048 bins."""
    absolute = np.abs(x)
    return np.histogram(absolute, 2048, range=(0.0, float(absolute.max())))


def limited(x: Floats, low_high: tuple[float, float]) -> float:
    """Return T of a range clipped to minimum and maximum, as onnxruntime does."""
    low, high = max(low_high[0], float(x.min())), min(low_high[1], float(x.max()))
    return max(abs(low), abs(high))


def ncnn(x: Floats) -> float:
    counts, edges = magnitude(x[x != 0])
    return compat.ncnn_kl(counts, float(edges[-1]))


def quantcal(strategy: Any) -> Callable[[Floats], float]:
    return lambda x: qc.calibrate(x, strategy, format="int8").high


METHODS: dict[str, Callable[[Floats], float]] = {
    "quantcal MSE": quantcal(qc.MSE()),
    "quantcal KL": quantcal(qc.KL()),
    "ModelOpt entropy": lambda x: compat.modelopt_entropy(*magnitude(x)),
    "ncnn KL": ncnn,
    "ONNX Runtime Entropy, 2048 bins": lambda x: limited(
        x, compat.onnxruntime_entropy(*signed(x, 2048))
    ),
    "ONNX Runtime Entropy, its default 128 bins": lambda x: limited(
        x, compat.onnxruntime_entropy(*signed(x, 128))
    ),
    "MinMax": quantcal(qc.MinMax()),
    "ModelOpt mse, by its text": lambda x: compat.modelopt_mse(
        *magnitude(x), as_released=False
    ),
    "ModelOpt mse, as released": lambda x: compat.modelopt_mse(*magnitude(x)),
}


def squared_error(x: Floats, end: float) -> float:
    """Return the mean squared error of symmetric int8 over [-end, end]."""
    back = qc.QuantParams.from_range(-end, end, format="int8").fake_quantize(x)
    return float(np.square(back.astype(np.float64) - x).mean())


def best(x: Floats) -> tuple[float, float]:
    """Return the best T of a scan and its error: 200 geometric steps, then 200 near it."""
    end = float(np.abs(x).max())
    coarse = end * np.geomspace(1e-3, 1.0, 200)
    errors = [squared_error(x, float(t)) for t in coarse]
    at = int(np.argmin(errors))
    fine = np.linspace(coarse[max(at - 1, 0)], coarse[min(at + 1, 199)], 200)
    found = [(squared_error(x, float(t)), float(t)) for t in fine]
    error, threshold = min([*found, (errors[at], float(coarse[at]))])
    return threshold, error


def rows(data: dict[str, Floats]) -> list[list[str]]:
    """Return the table of T and of the error as a multiple of the best."""
    table = [["range T (error in terms of the best)", *data]]
    table.append(["---", *("---:" for _ in data)])
    optima = {name: best(x) for name, x in data.items()}
    table.append(["**best of a scan**", *(f"{t:.3g}" for t, _ in optima.values())])
    for method, choose in METHODS.items():
        cells = []
        for name, x in data.items():
            end = choose(x)
            ratio = squared_error(x, end) / optima[name][1]
            cells.append(f"{end:.3g} ({readable(ratio)})")
        table.append([method, *cells])
    return table


def readable(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:,.0f}"


def main() -> None:
    """Rewrite the table between the two markers."""
    table = rows(synthetic() | activations())
    text = "\n".join("| " + " | ".join(row) + " |" for row in table)
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        msg = (
            f"{PAGE} has no markers {BEGIN} and {END}: add them where the table belongs"
        )
        raise SystemExit(msg)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
