"""Makes the golden files of `strategies/test_compat.py`: the results of the real packages.

    python tests/golden/make_compat.py histograms    # quantcal[demo] (the shared input)
    python tests/golden/make_compat.py onnxruntime   # onnxruntime
    python tests/golden/make_compat.py modelopt      # nvidia-modelopt, huggingface_hub, requests
    python tests/golden/make_compat.py ncnn          # nothing but numpy

Each step needs only the packages in its comment, so each can run in a separate environment.
The golden files record the versions. ncnn's table tool is not a Python package. Its results
are from the simple loops at the end of this file, written from the description of the
algorithm, as the golden file notes.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
HISTOGRAMS = HERE / "compat_histograms.npz"
SIZES = (256, 300, 512)


# --- histograms --------------------------------------------------------------------------


def forms(values, num_bins):
    """Return the three forms of a sample: over [-T, T], the same with an odd number of
    bins, and over [0, T] of |x|; with T.
    """
    end = float(np.abs(values).max())
    odd = num_bins | 1
    return {
        "signed": np.histogram(values, num_bins, range=(-end, end))[0],
        "odd": np.histogram(values, odd, range=(-end, end))[0],
        "magnitude": np.histogram(np.abs(values), num_bins, range=(0, end))[0],
    }, end


def made(rng, draw, num_bins):
    """Return the three forms of counts that a function draws for a number of bins."""
    signed, odd = draw(rng, num_bins), draw(rng, num_bins | 1)
    return {"signed": signed, "odd": odd, "magnitude": draw(rng, num_bins)}


def samples(rng):
    """Yield names and samples: shapes, sizes and units differ."""
    yield "gauss", rng.standard_normal(20_000)
    yield "gauss-small", rng.standard_normal(500)
    yield "gauss-shifted", rng.normal(1.5, 1.0, 20_000)
    yield "laplace", rng.laplace(size=50_000)
    yield "laplace-wide", rng.laplace(scale=40.0, size=20_000)
    yield "student-t3", rng.standard_t(3, 20_000)
    yield "uniform", rng.uniform(-1, 1, 20_000)
    yield "lognormal", rng.lognormal(size=20_000)
    yield (
        "two-clusters",
        np.concatenate([rng.normal(-4, 0.3, 5_000), rng.normal(2, 0.5, 15_000)]),
    )
    yield "large", np.abs(rng.normal(900.0, 200.0, 20_000))
    yield "tiny", rng.standard_normal(20_000) * 1e-8
    yield "relu", np.maximum(rng.standard_normal(20_000), 0)
    yield "exponential", rng.exponential(size=20_000)
    yield "far-outlier", np.append(rng.standard_normal(20_000), 60.0)
    yield "half-gauss", np.abs(rng.standard_normal(5_000))
    yield "relu6", np.clip(rng.normal(2, 3, 20_000), 0, 6)
    yield "gamma", rng.gamma(4.0, 0.5, 20_000)
    yield "integers", rng.integers(0, 40, 20_000).astype(np.float64)


def one_bin(at):
    def draw(rng, num_bins):
        counts = np.zeros(num_bins, dtype=np.int64)
        counts[at if at < 0 else min(at, num_bins - 1)] = 1000
        return counts

    return draw


def spiky(rng, num_bins):
    counts = rng.integers(0, 20, num_bins)
    at = rng.integers(0, num_bins, 6)
    counts[at] += rng.integers(1_000, 50_000, 6)
    return counts


def sparse(share):
    def draw(rng, num_bins):
        return (rng.random(num_bins) < share) * rng.integers(1, 9, num_bins)

    return draw


def comb(rng, num_bins):
    counts = np.zeros(num_bins, dtype=np.int64)
    counts[:: int(rng.integers(2, 9))] = int(rng.integers(1, 99))
    return counts


def drawn(rng):
    """Yield names and functions that draw counts."""
    for number in range(6):
        yield f"spiky-{number}", spiky
    for number, share in enumerate((0.002, 0.01, 0.05, 0.1, 0.3, 0.6)):
        yield f"sparse-{number}", sparse(share)
    for number in range(3):
        yield f"comb-{number}", comb
    for at in (0, 1, 2, 127, 129, 200, -1):
        yield f"one-bin-{at}", one_bin(at)
    yield "random", lambda rng, n: rng.integers(0, 1000, n)
    yield "equal", lambda rng, n: np.full(n, 7)
    yield "many", lambda rng, n: rng.integers(0, 1 << 22, n)
    yield "falling", lambda rng, n: (1e5 * np.exp(-np.arange(n) / 30)).astype(int)
    yield "late", lambda rng, n: np.where(np.arange(n) > 0.7 * n, 50, 0)
    yield "empty", lambda rng, n: np.zeros(n, dtype=np.int64)


def delicate():
    """Yield names, counts and T on which the originals' roundings decide (found by trying).

    Without them, a search in exact arithmetic would pass.
    """
    for seed in (22, 30):  # ties that only the original's order of adding breaks
        rng = np.random.default_rng([seed, 300])
        yield (
            f"tie-{seed}",
            np.where(np.arange(300) % 3, 0, rng.integers(1, 3, 300)),
            4.0,
        )
    for seed in (
        38,
        63,
    ):  # float32 sums: torch's order gives another answer than numpy's
        rng = np.random.default_rng([seed, 2048])
        yield f"sum-{seed}", rng.integers(0, 1000, 2048), 3000.0
    for seed in (4, 36):  # onnxruntime's whole numbers
        rng = np.random.default_rng([seed, 300])
        counts = rng.poisson(30 * np.exp(-np.arange(300) / 50))
        yield f"whole-{seed}", np.concatenate([counts[::2][::-1], counts[::2]]), 4.0


def activations():
    """Yield names and histograms of a dozen tensors of the demo's text recognizer."""
    from quantcal.demo import RECOGNIZER, LineSamples, render_lines
    from quantcal.onnx import observe

    lines = render_lines(6, split="calibration")
    seen = observe(RECOGNIZER.fetch(), LineSamples(lines))
    names = sorted(seen)
    for name in names[:: len(names) // 12][:12]:
        yield name, seen[name]


def folded(histogram, num_bins, end):
    """Return counts of |x| over [0, end] from a histogram of x."""
    right = histogram.rebin(num_bins, 0.0, end)[0].astype(np.int64)
    left = histogram.rebin(num_bins, -end, 0.0)[0].astype(np.int64)
    return right + left[::-1] - np.eye(1, num_bins, dtype=np.int64)[0] * histogram.zeros


def make_histograms():
    rng = np.random.default_rng(20_24)
    arrays, ends = {}, {}
    for number, (name, values) in enumerate(samples(rng)):
        size = 2048 if name in ("gauss", "relu", "large") else SIZES[number % 3]
        arrays[name], ends[name] = forms(values, size)
    for number, (name, draw) in enumerate(drawn(rng)):
        arrays[name] = made(rng, draw, SIZES[number % 3])
        ends[name] = float(2.0 ** rng.integers(-3, 6) * rng.uniform(0.5, 1))
    for num_bins in (128, 129, 140, 160):
        name = f"few-{num_bins}"
        arrays[name], ends[name] = forms(rng.laplace(size=3_000), num_bins)
    for number, (name, seen) in enumerate(activations()):
        size = 1024 if number == 0 else SIZES[number % 3]
        end = max(abs(seen.min), abs(seen.max))
        arrays[f"real:{name}"] = {
            "signed": seen.rebin(size, -end, end)[0],
            "odd": seen.rebin(size | 1, -end, end)[0],
            "magnitude": folded(seen, size, end),
        }
        ends[f"real:{name}"] = end
    for name, counts, end in delicate():
        arrays[name] = {
            "signed": counts,
            "odd": np.append(counts, 0),
            "magnitude": counts,
        }
        ends[name] = end
    packed = {
        f"{name}/{form}": counts.astype(np.uint32)
        for name, parts in arrays.items()
        for form, counts in parts.items()
    }
    np.savez_compressed(HISTOGRAMS, **packed)
    (HERE / "compat_ends.json").write_text(json.dumps(ends, indent=1) + "\n")
    print(f"{len(arrays)} histograms, {HISTOGRAMS.stat().st_size} bytes")


def histograms(form):
    """Yield name, counts and T of every histogram in one form; float32 every other T."""
    ends = json.loads((HERE / "compat_ends.json").read_text())
    with np.load(HISTOGRAMS) as packed:
        for name, end in ends.items():
            yield name, packed[f"{name}/{form}"].astype(np.int64), end


def edges_of(counts, low, high, dtype):
    """Return equal bins' edges; the test makes the same."""
    return np.linspace(low, high, counts.size + 1).astype(dtype)


# --- answers -----------------------------------------------------------------------------


def ask(form, function, call, variants):
    """Yield the answers of one function to all histograms, with the options tried."""
    for number, (name, counts, end) in enumerate(histograms(form)):
        dtype = ("float64", "float32")[number % 2]
        edges = edges_of(counts, 0.0 if form == "magnitude" else -end, end, dtype)
        others = variants[1:]
        chosen = others and others[number % len(others)]
        for options in [variants[0], chosen] if chosen else variants:
            answer = {
                "function": function,
                "histogram": name,
                "form": form,
                "dtype": dtype,
                "options": options,
            }
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    answer["result"] = call(counts.copy(), edges, end, **options)
            except Exception as error:  # the peers raise what they happen to raise
                answer["error"] = type(error).__name__
            yield answer


def save(peer, versions, answers, note=""):
    answers = list(answers)
    head = {"peer": peer, "versions": versions, "note": note}
    rows = ",\n".join(json.dumps(answer) for answer in answers)
    text = json.dumps(head)[:-1] + f', "answers": [\n{rows}\n]}}\n'
    (HERE / f"compat_{peer}.json").write_text(text)
    failed = sum("error" in answer for answer in answers)
    print(f"{peer} {versions}: {len(answers)} answers, {failed} of them errors")


def make_onnxruntime():
    from onnxruntime.quantization.calibrate import HistogramCollector

    def collector(method, symmetric=False, percentile=99.999):
        return HistogramCollector(method, symmetric, 128, 128, percentile, "same")

    def extremes(edges):  # so far out that the calibrator's own limits do nothing
        return -np.array(np.inf, edges.dtype), np.array(np.inf, edges.dtype)

    def entropy(counts, edges, end, num_quantized_bins):
        low_high = collector("entropy").get_entropy_threshold(
            (counts, edges, *extremes(edges), end), num_quantized_bins
        )
        return [float(v) for v in low_high]

    def percentile(counts, edges, end, percentile, symmetric):
        asked = collector("percentile", symmetric, percentile)
        asked.histogram_dict = {"x": (counts, edges, *extremes(edges), end)}
        return [float(v) for v in asked.compute_percentile()["x"][:2]]

    levels = [{"num_quantized_bins": n} for n in (128, 64, 255, 100)]
    shares = [
        {"percentile": p, "symmetric": s}
        for p in (99.999, 99.9, 95, 0, 100, 50)
        for s in (0, 1)
    ]
    for share in shares:
        share["symmetric"] = bool(share["symmetric"])
    save(
        "onnxruntime",
        {"onnxruntime": version("onnxruntime"), "numpy": version("numpy")},
        [
            *ask("signed", "onnxruntime_entropy", entropy, levels),
            *(  # a level more than bins
                answer
                for answer in ask(
                    "signed",
                    "onnxruntime_entropy",
                    entropy,
                    [{"num_quantized_bins": 129}],
                )
                if answer["histogram"] == "few-128"
            ),
            *ask("signed", "onnxruntime_percentile", percentile, shares),
            *ask("magnitude", "onnxruntime_percentile", percentile, shares[1:]),
        ],
    )


def make_modelopt():
    from modelopt.torch.quantization.calib import histogram as calib

    def entropy(counts, edges, end, num_bits, unsigned, stride, start_bin):
        answer = calib._compute_amax_entropy(
            counts, edges, num_bits, unsigned, stride, start_bin
        )
        return answer.item()

    released = calib.fake_tensor_quant

    def placed(values, amax, num_bits, unsigned):
        return released(values, amax, None, num_bits, unsigned)

    def mse(counts, edges, end, num_bits, unsigned, stride, start_bin, as_released):
        calib.fake_tensor_quant = released if as_released else placed
        answer = calib._compute_amax_mse(
            counts, edges, num_bits, unsigned, stride, start_bin
        )
        return answer.item()

    def percentile(counts, edges, end, percentile):
        return calib._compute_amax_percentile(counts, edges, percentile).item()

    searches = [
        {"num_bits": b, "unsigned": u, "stride": s, "start_bin": t}
        for b, u, s, t in (
            (8, False, 1, 128),
            (8, True, 1, 128),
            (8, False, 3, 100),
            (4, False, 1, 8),
            (6, True, 7, 64),
            (5, False, 16, 128),
        )
    ]
    packages = ("nvidia-modelopt", "torch", "scipy", "numpy")
    save(
        "modelopt",
        {name: version(name) for name in packages},
        [
            *ask("magnitude", "modelopt_entropy", entropy, searches),
            *(
                answer
                for flag in (True, False)
                for answer in ask(
                    "magnitude",
                    "modelopt_mse",
                    mse,
                    [{**options, "as_released": flag} for options in searches],
                )
            ),
            *ask(
                "magnitude",
                "modelopt_percentile",
                percentile,
                [{"percentile": p} for p in (99.99, 99.9, 99, 100, 0, 50)],
            ),
        ],
        note="as_released=false: the package's own search and quantizer, with num_bits and "
        "unsigned handed over in their places",
    )


def make_ncnn():
    def kl(counts, edges, end, target_bins):
        return naive_ncnn(counts.tolist(), end, target_bins)

    save(
        "ncnn",
        {"numpy": np.__version__},
        ask(
            "magnitude",
            "ncnn_kl",
            kl,
            [{"target_bins": n} for n in (128, 64, 100, 16)],
        ),
        note="no real package: plain loops in make_compat.py, written from the description",
    )


def naive_ncnn(counts, absmax, target_bins):
    """Return ncnn's KL threshold, bin by bin.

    To be trusted because it is the description, sentence by sentence: for each candidate,
    each level takes of each bin the part that lies in it, and gives the same part back.
    """
    f32 = np.float32
    size, total = len(counts), sum(counts)
    shares = [f32(c / total) if total else f32(np.nan) for c in counts]
    best, best_width = math.inf, target_bins
    for width in range(target_bins, size):
        p = [f32(1e-4) + share for share in shares[:width]]
        for share in shares[width:]:
            p[-1] = p[-1] + share
        q = [f32(1e-4)] * width
        for level in range(target_bins):
            parts = parts_of_level(level, width, target_bins)
            value, share_of_level = f32(0), f32(0)
            for k, part in parts:
                value = value + part * shares[k]
            whole = sum(1 for _, part in parts if part == 1)
            share_of_level = f32(whole)
            for _, part in parts:
                if part != 1:
                    share_of_level = share_of_level + part
            value = value / share_of_level
            for k, part in parts:
                q[k] = q[k] + part * value
        divergence = f32(0)
        for a, b in zip(p, q, strict=True):
            ratio = float(a / b)
            logarithm = math.log(ratio) if ratio > 0 else math.nan
            divergence = divergence + a * f32(logarithm)
        if divergence < best:
            best, best_width = divergence, width
    return float(f32(best_width + 0.5) * f32(absmax) / f32(size))


def parts_of_level(level, width, levels):
    """Return (bin, part) of a level: the cut bins, left before right, then the whole ones."""
    f32 = np.float32
    per_level = f32(width) / f32(levels)
    start = f32(level) * per_level
    end = f32(level + 1) * per_level
    if level == levels - 1:
        start, end = f32(width) - per_level, f32(width)
    first, last = math.ceil(start), math.floor(end)
    parts = []
    if first > start:
        parts.append((first - 1, f32(first) - start))
    if end > last:
        parts.append((last, end - f32(last)))
    return parts + [(k, f32(1)) for k in range(first, last)]


if __name__ == "__main__":
    globals()[f"make_{sys.argv[1]}"]()
