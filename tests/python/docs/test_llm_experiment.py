"""The language-model experiment of docs/measurements/llm.md: its parts, and one window of the real model."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from paths import ROOT

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from llama_models import real, small_llama, tokens  # noqa: E402, F401
from quantcal.strategies.layers import layer_kind  # noqa: E402
from research.llm import configurations, measure, observing, reading, texts  # noqa: E402
from research.llm.chain import Chain  # noqa: E402

pytestmark = pytest.mark.torch


def test_attention_sees_no_later_token_and_turns_with_the_position() -> None:
    model, x = small_llama(), tokens(1, 12)
    full = model(x)
    torch.testing.assert_close(model(x[:, :7]), full[:, :7], rtol=1e-4, atol=1e-4)
    swapped = x[:, [1, 0, *range(2, 12)]]
    assert not torch.allclose(model(swapped)[:, -1], full[:, -1], rtol=1e-3)


def test_grouped_attention_is_attention_by_its_definition() -> None:
    """Against sums over every pair of positions, with rotations as complex numbers."""
    model = small_llama()
    attention, c = model.model.layers[0].self_attn, model.model.config
    x = torch.randn(1, 5, c.width)
    q, k, v = (
        linear(x)[0].double().numpy()
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    d = c.head_width
    read = np.zeros((5, c.width))
    for head in range(c.heads):
        mine = slice(head * d, (head + 1) * d)
        shared = slice(head // 3 * d, (head // 3 + 1) * d)  # 6 heads, 2 of keys
        for i in range(5):
            scores = [
                turned(q[i, mine], i) @ turned(k[j, shared], j) / np.sqrt(d)
                for j in range(i + 1)
            ]
            shares = np.exp(scores) / np.exp(scores).sum()
            read[i, mine] = sum(s * v[j, shared] for j, s in enumerate(shares))
    wanted = read @ attention.o_proj.weight.double().numpy().T
    from research.llm.smollm2 import rotations

    got = attention(x, rotations(5, c))[0].numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def turned(x: Any, position: int) -> Any:
    """Rotate each neighboring pair by position * 10000^(-2 i / width)."""
    out = np.empty_like(x)
    for i in range(len(x) // 2):
        angle = position * 1e4 ** (-2 * i / len(x))
        a, b = x[2 * i], x[2 * i + 1]
        out[2 * i] = a * np.cos(angle) - b * np.sin(angle)
        out[2 * i + 1] = a * np.sin(angle) + b * np.cos(angle)
    return out


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    rng = np.random.default_rng(0)
    reference = rng.gamma(2, 1.5, (4, measure.WINDOW - 1)).astype(np.float32)
    worse = reference + rng.normal(0.1, 0.3, reference.shape).astype(np.float32)
    found = measure.perplexity(worse, reference)
    assert found.value == pytest.approx(np.exp(worse.mean()), rel=1e-5)
    assert found.ratio == pytest.approx(np.exp((worse - reference).mean()), rel=1e-5)
    # The standard error of the mean difference: 0.3 / sqrt(4 * 511), 95 % are 1.96 of it.
    half = 1.96 * 0.3 / np.sqrt(worse.size)
    assert np.log(found.high / found.low) / 2 == pytest.approx(half, rel=0.35)
    assert found.low < np.exp(0.1) < found.high
    same = measure.perplexity(reference, reference)
    assert (same.low, same.ratio, same.high) == (1, 1, 1)


def test_texts_to_evaluate_are_not_calibrated_on() -> None:
    for read in (texts.evaluation_texts(), texts.calibration_texts()):
        assert len(read) == 2
        assert all(len(text.content) > 100_000 for text in read)
    for evaluated, calibrated in zip(
        texts.evaluation_texts(), texts.calibration_texts(), strict=True
    ):
        # As much as is read of each: 16 and 8 windows, of 4.4 letters a token at most. What
        # is shared are phrases such as "Note:".
        parts = set(evaluated.content[:36_000].split("\n\n"))
        shared = parts & set(calibrated.content[:18_000].split("\n\n"))
        assert sum(map(len, shared)) < 100


def test_without_quotations_docstrings_take_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(texts, "_fortunes", lambda: None)
    for text in (texts.evaluation_texts()[0], texts.calibration_texts()[0]):
        assert text.name == "docstrings"
        assert len(text.content) > 100_000
    with pytest.raises(FileNotFoundError, match="apt-get install fortunes"):
        texts.labeled_quotations(1)


@pytest.mark.parametrize("script", ["perplexity", "sentence_encoder", "float_inputs"])
def test_the_experiments_say_what_they_do(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"research.llm.{script}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "quantizes the inputs" in done.stdout


# The real model.


@pytest.fixture(scope="module")
def window(real: Any) -> Any:  # noqa: F811
    text = texts.evaluation_texts()[1]
    return measure.windows(real[1].encode(text.content).ids, 1)


@pytest.fixture(scope="module")
def observed(real: Any, window: Any) -> Any:  # noqa: F811
    made = qc.Calibrator(), qc.Calibrator()
    reading.at_once(observing.observing(Chain(real[0]), window, *made), 1)
    return made


@pytest.mark.model
def test_the_model_speaks(real: Any) -> None:  # noqa: F811
    from research.llm.smollm2 import complete

    assert complete(*real, "The capital of France is", tokens=2) == " Paris."


@pytest.mark.model
def test_all_inputs_of_linear_layers_have_a_kind(observed: Any) -> None:
    cal, channels = observed
    assert len(cal) == len(channels) == 120
    kinds = [layer_kind(name) for name in cal]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == dict.fromkeys(
        configurations.KINDS, 30
    )


@pytest.mark.model
def test_one_value_takes_a_tensor_that_8_bits_cannot_hold(observed: Any) -> None:
    cal, channels = observed
    table = cal.compute("mse", format="uint8")
    worst = configurations.most_lost(table)[0]
    assert worst == "model.layers.11.mlp.down_proj"
    assert table.report[worst].rounded_to_zero > 0.999
    largest = sorted(np.maximum(-channels.stats(worst).min, channels.stats(worst).max))
    assert largest[-1] > 1000 > 100 > largest[-3]


@pytest.mark.model
def test_ranges_by_error_harm_least_where_those_by_divergence_destroy(
    real: Any,  # noqa: F811
    window: Any,
    observed: Any,
) -> None:
    model, cal = real[0], observed[0]

    chain = Chain(model)
    ranges = [
        configurations.of_kind(cal.compute(strategy, format="uint8"), "ffn_down")
        for strategy in ("mse", "kl")
    ]
    tables: list[configurations.Table] = [{}, *ranges]
    plans = [
        configurations.Configuration("", table=table).plan(chain.names)
        for table in tables
    ]
    with reading.one_core_each():
        reference, mse, kl = (x.mean() for x in chain.losses(window[0], plans))
    assert 2 < reference < 3.2
    assert reference < mse < reference + 0.7
    assert kl > reference + 1.5
