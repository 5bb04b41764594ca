"""`Comparison`: its sums over samples against plain numpy over all of them."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from quantcal.onnx.output_error import Comparison, OutputError

Array = np.ndarray[Any, Any]


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def compare(pairs: list[tuple[Array, Array]], name: str = "") -> OutputError:
    comparison = Comparison(name)
    for want, got in pairs:
        comparison.add(want, got)
    return comparison.result()


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    made: Array = e / e.sum(axis=-1, keepdims=True)
    return made


# The last is larger than a chunk. An offset of 1000 leaves 6 digits of the variance if the
# mean is subtracted after the squares are summed, and all if it is before.
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("sizes", [(1,), (3, 5), (7, 1, 100), (200_000, 70_000)])
def test_all_sums_are_those_of_the_joined_samples(
    sizes: tuple[int, ...], offset: float
) -> None:
    pairs = []
    for seed, size in enumerate(sizes):
        x = (draw(size, seed=seed) * (seed + 1) + offset).astype(np.float32)
        pairs.append((x, x + draw(size, seed=seed + 50) / 8))
    found = compare(pairs)
    x, y = (
        np.concatenate(part).astype(np.float64) for part in zip(*pairs, strict=True)
    )
    noise = ((x - y) ** 2).sum()
    assert found.sqnr_db == pytest.approx(10 * np.log10((x**2).sum() / noise))
    assert found.max_error == np.abs(x - y).max()
    cosine = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
    assert found.cosine == pytest.approx(cosine)
    variation = ((x - x.mean()) ** 2).sum()
    want = noise / variation if variation else math.inf
    assert found.loss == pytest.approx(want, rel=1e-9)
    assert found.top1 is found.kl is None  # vectors


def test_the_loss_of_the_mean_is_one_and_an_offset_hides_no_error() -> None:
    x = draw(1000) + 50
    assert compare([(x, np.full_like(x, x.mean()))]).loss == pytest.approx(1, rel=1e-6)
    y = x + draw(1000, seed=1) / 10
    found = compare([(x, y)])
    assert found.sqnr_db is not None
    assert found.sqnr_db > 50
    assert found.loss == pytest.approx(0.01, rel=0.2)


def test_a_constant_tensor_has_no_loss_or_an_infinite_one() -> None:
    x = np.full((2, 3), 4, np.float32)
    assert compare([(x, x)]).loss == 0
    assert compare([(x, x + 1)]).loss == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_equal_or_an_infinite_error(bad: float) -> None:
    x = draw(4, 5)
    x[1, 2] = bad
    y = x + np.float32(0.5)
    finite = np.isfinite(x)
    same = compare([(x, y)])
    assert same.max_error == pytest.approx(0.5)
    noise = ((y[finite] - x[finite]).astype(np.float64) ** 2).sum()
    around = x[finite].astype(np.float64)
    assert same.loss == pytest.approx(noise / ((around - around.mean()) ** 2).sum())
    y[1, 2] = 0
    other = compare([(x, y)])
    assert (other.max_error, other.loss) == (math.inf, math.inf)
    assert other.sqnr_db == -math.inf


def test_types_that_numpy_lacks_are_compared_in_float64() -> None:
    x = draw(3, 7).astype(ml_dtypes.bfloat16)
    assert compare([(x, x)]).loss == 0
    assert compare([(x, (x * 2).astype(ml_dtypes.bfloat16))]).sqnr_db == pytest.approx(
        0
    )


UNIT = draw(4, 8) / np.linalg.norm(draw(4, 8), axis=1, keepdims=True)
MATRIX, CUBE, MAP = draw(4, 8), draw(2, 3, 8), draw(1, 1, 6, 6)

# name of the output, samples, whether its last axis counts classes
CLASSES = {
    "matrix": ("y", [MATRIX], True),
    "matrices of one width": ("y", [MATRIX, draw(2, 8)], True),
    "matrices of several widths": ("y", [MATRIX, draw(4, 9)], False),
    "one column": ("y", [draw(4, 1)], False),
    "vector": ("y", [draw(8)], False),
    "scalar": ("y", [np.float32(3).reshape(())], False),
    "embeddings": ("y", [UNIT], False),
    "sequence of reals": ("y", [CUBE], False),
    "dense map": ("y", [MAP], False),
    "probabilities in a map of one channel": ("y", [1 / (1 + np.exp(-MAP))], False),
    "probabilities of a sequence": ("y", [softmax(CUBE)], True),
    "probabilities of one vector": ("y", [softmax(draw(8))], True),
    "attention of several lengths": (
        "y",
        [softmax(CUBE), softmax(draw(2, 3, 5))],
        False,
    ),
    "logits by name": ("token_Logits", [CUBE], True),
    "logits of several widths": ("logits", [CUBE, draw(2, 3, 5)], False),
}


@pytest.mark.parametrize("case", CLASSES)
def test_top1_counts_only_where_the_last_axis_has_classes(case: str) -> None:
    name, samples, has_classes = CLASSES[case]
    pairs = [(x, x + draw(*x.shape, seed=9) / 2) for x in samples]
    found = compare(pairs, name)
    if not has_classes:
        assert found.top1 is None
        return
    same = [(x.argmax(-1) == y.argmax(-1)).reshape(-1) for x, y in pairs]
    assert found.top1 == np.concatenate(same).mean()
    assert found.top1 is not None


def test_kl_is_that_of_probabilities_only() -> None:
    p, q = softmax(CUBE), softmax(CUBE + draw(2, 3, 8, seed=3))
    want = (p * np.log(p / q)).sum(axis=-1).mean()
    assert compare([(p, q)]).kl == pytest.approx(want, rel=1e-5)
    assert compare([(p, q), (p * 2, q)]).kl is None
    # Rows of different lengths are still probabilities.
    assert compare([(p, q), (softmax(draw(5)), softmax(draw(5)))]).kl is not None


def test_whole_numbers_have_the_share_of_equal_elements() -> None:
    found = compare([(np.array([1, 2, 3]), np.array([1, 2, 4])), (np.array([5]),) * 2])
    assert found == OutputError(top1=3 / 4)


def test_tensors_inside_a_model_have_no_classes() -> None:
    comparison = Comparison("logits", elements_only=True)
    comparison.add(softmax(MATRIX), softmax(MATRIX))
    found = comparison.result()
    assert (found.top1, found.kl, found.loss) == (None, None, 0)


def test_nothing_is_known_of_empty_tensors() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert compare([(empty, empty)]) == OutputError()
