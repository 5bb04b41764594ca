"""The chain that reads windows fast, against the modules and `quantcal.torch` on them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from llama_models import real, small_llama, tokens  # noqa: E402, F401
from research.llm import configurations, measure, observing, reading  # noqa: E402
from research.llm.chain import Chain, alike  # noqa: E402

pytestmark = pytest.mark.torch

FOLLOWERS = {"q_proj": ("k_proj", "v_proj"), "gate_proj": ("up_proj",)}


def for_modules(table: configurations.Table) -> dict[str, qc.QuantParams]:
    """Return a table in which modules that read the same tensor have the same parameters."""
    found = dict(table)
    for name, params in table.items():
        block, _, last = name.rpartition(".")
        found |= {f"{block}.{other}": params for other in FOLLOWERS.get(last, ())}
    return found


def expected_losses(model: Any, window: Any, configuration: Any) -> Any:
    """Return the losses by the modules, their hooks, and all logits."""
    with qc.torch.fake_quantize(
        model,
        for_modules(configuration.table),
        weights=configuration.weights,
        activations=configuration.activations,
    ):
        logits = model(window[None])[0, :-1]
    return torch.nn.functional.cross_entropy(
        logits, window[1:], reduction="none"
    ).numpy()


def tables_of(model: Any, window: Any) -> tuple[Any, Any]:
    """Return MinMax ranges for tensors and for channels."""
    found = []
    for axis in (None, -1):
        with qc.torch.observe(
            model,
            [f"*.{last}" for last in ("q_proj", "o_proj", "gate_proj", "down_proj")],
            axis=axis,
        ) as cal:
            model(window[None])
        found.append(cal.compute("minmax", format="uint8"))
    return found[0], found[1]


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    with reading.one_core_each():
        yield


@pytest.fixture
def model() -> Any:
    return small_llama()


@pytest.fixture
def window() -> Any:
    return tokens(1, 300)[
        0
    ]  # more than two of the pieces in which attention is computed


def configurations_of(model: Any, window: Any) -> list[configurations.Configuration]:
    """Return one configuration of each sort."""
    make = configurations.Configuration
    table, channels = tables_of(model, window)
    narrow = {**table, "model.layers.1.mlp.down_proj": qc.QuantParams.from_range(-1, 1)}
    return [
        make("float"),
        make("all", table=table),
        make("last step differs", table=narrow),
        make("one kind", table=configurations.of_kind(table, "attention_out")),
        make("channels", table=channels),
        make("tokens", table=table, activations="per_token"),
        make("weights", table=table, weights="int8"),
    ]


def chains_of(model: Any) -> dict[reading.Weights, Chain]:
    return {
        (None, ""): Chain(model),
        ("int8", ""): configurations.with_weights(model, "int8"),
    }


def test_losses_are_those_of_the_modules_with_fake_quantize(
    model: Any, window: Any
) -> None:
    chains = chains_of(model)
    reference = expected_losses(model, window, configurations.Configuration("float"))
    for configuration in configurations_of(model, window):
        chain = chains[configuration.weights, ""]
        (got,) = chain.losses(window, [configuration.plan(chain.names)])
        wanted = expected_losses(model, window, configuration)
        apart = np.abs(got - wanted)
        if configuration.table:
            # Sums of another order turn few roundings to 8 bits the other way.
            assert np.median(apart) < 1e-4, configuration.name
            assert apart.mean() < np.abs(wanted - reference).mean() / 10
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_what_configurations_have_in_common_is_computed_once(
    model: Any, window: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(model)
    names, steps = chain.names, []
    step = chain.step
    monkeypatch.setattr(
        chain, "step", lambda n, *args: steps.append(n) or step(n, *args)
    )
    table, _ = tables_of(model, window)
    a = configurations.Configuration("", table=table)
    late = {**table, names[6]: qc.QuantParams.from_range(-1, 1)}  # leaves at step 6
    later = {**late, names[7]: qc.QuantParams.from_range(-1, 1)}
    b, c, d = (configurations.Configuration("", table=t) for t in (late, later, {}))
    plans = [x.plan(names) for x in (a, b, c, d)]
    alone = [next(chain.losses(window, [plan])) for plan in plans]
    steps.clear()
    together = list(chain.losses(window, plans))
    assert steps == [*range(8), 6, 7, 7, *range(8)]
    assert all(np.array_equal(x, y) for x, y in zip(alone, together, strict=True))


def test_alike_counts_what_two_sequences_begin_with() -> None:
    assert alike("abcd", "abxd") == 2
    assert alike("ab", "abc") == alike("abc", "ab") == 2
    assert alike("", "a") == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_losses_are_the_same_bytes_whatever_the_number_of_workers(
    model: Any, tmp_path: Path, workers: int
) -> None:
    todo = configurations_of(model, tokens(1, 60)[0])
    again = configurations.Configuration("another name", table=todo[1].table)
    windows = [*tokens(3, 60)]
    chains = chains_of(model)
    results = measure.Results(tmp_path)
    reader = reading.Reader(results, chains, workers)
    work = [(window, [*todo, again]) for window in windows]
    assert reader.missing(work) == len(windows) * len(todo)
    progress = reading.Progress(reader.missing(work))
    reader.read(work, progress)
    assert progress.done == progress.total
    assert reader.missing(work) == 0
    for configuration in todo:
        chain = chains[configuration.weights, configuration.smoothing]
        for window in windows:
            (wanted,) = chain.losses(window, [configuration.plan(chain.names)])
            got = results.load(configuration.digest, window)
            assert np.array_equal(got, wanted)


def test_a_run_goes_on_where_it_was_stopped(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = configurations_of(model, tokens(1, 60)[0])[:4]
    chain, results = Chain(model), measure.Results(tmp_path)
    reader = reading.Reader(results, {(None, ""): chain}, 2)
    work = [(window, todo) for window in tokens(2, 60)]
    progress = reading.Progress(8)

    def save(*args: Any) -> None:
        if progress.done >= 3:  # two at once may pass over 3
            raise KeyboardInterrupt
        measure.Results.save(results, *args)

    monkeypatch.setattr(results, "save", save)
    with pytest.raises(KeyboardInterrupt):
        reader.read(work, progress)
    monkeypatch.undo()
    assert 3 <= 8 - reader.missing(work) < 8
    left = reading.Progress(reader.missing(work))
    reader.read(work, left)
    assert left.done == left.total
    assert reader.missing(work) == 0


def test_no_window_is_begun_that_would_end_too_late(model: Any, tmp_path: Path) -> None:
    todo = [configurations.Configuration("float")]
    results = measure.Results(tmp_path)
    reader = reading.Reader(results, {(None, ""): Chain(model)}, 1)
    first, second, third = ([(window, todo)] for window in tokens(3, 60))
    progress = reading.Progress(3)
    reader.read(first, progress, time.perf_counter() + 100)
    reader.read(second, progress, time.perf_counter())
    assert (reader.missing(first), reader.missing(second)) == (0, 1)
    # One has taken all the time so far, so another would not end in half of it.
    reader.read(third, progress, time.perf_counter() + progress.seconds / 2)
    assert reader.missing(third) == 1
    reader.read(third, progress, time.perf_counter() + 100)
    assert reader.missing(third) == 0


def test_what_is_observed_is_what_the_modules_read(model: Any) -> None:
    windows = tokens(4, 60)
    whole, channels = qc.Calibrator(), qc.Calibrator()
    tasks = observing.observing(Chain(model), windows, whole, channels)
    reading.at_once(tasks, 2)
    with qc.torch.observe(
        model, [f"*.{last}" for last in ("q_proj", "o_proj", "gate_proj", "down_proj")]
    ) as cal:
        for window in windows:
            model(window[None])
    assert list(whole) == list(channels) == Chain(model).names
    assert set(whole) == set(cal)
    for name in cal:
        for end in ("min", "max", "count"):
            wanted = getattr(cal[name], end)
            assert getattr(whole[name], end) == pytest.approx(wanted, rel=1e-4)
        ends = channels.stats(name).max
        assert ends.shape == (whole[name].count // windows.numel(),)
        assert ends.max() == whole[name].max


@pytest.mark.model
def test_the_real_model_reads_a_window_as_its_modules_do(real: Any) -> None:  # noqa: F811
    model, tokenizer = real
    text = "The capital of France is Paris, and that of Italy is Rome. " * 3
    window = torch.tensor(tokenizer.encode(text).ids)
    chain, plain = Chain(model), configurations.Configuration("float")
    (got,) = chain.losses(window, [plain.plan(chain.names)])
    np.testing.assert_allclose(got, expected_losses(model, window, plain), atol=1e-3)
