"""`qc.torch.observe`: names of calls and tensors, and forward passes that fail or overlap."""

from __future__ import annotations

import threading
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Failing, Shared, hooks_of, random, recorded  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def test_a_module_called_several_times_has_a_name_for_each_call() -> None:
    model, x = Shared(3), random(4, 6)
    second = model.block(x)
    third = model.block(second)
    with qc.torch.observe(model, outputs=True) as cal:
        model(x)
    wanted = {
        "block#1": [x],
        "block#1:output": [second],
        "block#2": [second],
        "block#2:output": [third],
        "block#3": [third],
        "block#3:output": [model.block(third)],
    }
    assert cal == recorded(wanted)
    with qc.torch.observe(model, merge_calls=True) as merged:
        model(x)
    assert merged == recorded({"block": [x, second, third]})


def test_a_module_called_once_in_some_forwards_keeps_its_plain_name_there() -> None:
    model, x = Shared(2), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
        model.calls = 1
        model(x)
    assert cal.names == ["block#1", "block#2", "block"]


def test_a_module_called_outside_a_forward_is_recorded_too() -> None:
    model, x = Shared(1), random(4, 6)
    with qc.torch.observe(model) as cal:
        model.block(x)
        model.block(x)
    assert cal == recorded({"block": [x, x]})


def test_a_model_that_is_an_observed_module_has_its_class_as_path() -> None:
    model, x = nn.Linear(6, 2), random(4, 6)
    with qc.torch.observe(model, outputs=True) as cal:
        model(x)
    assert cal == recorded({"Linear": [x], "Linear:output": [model(x)]})


def test_several_tensors_of_a_call_are_numbered() -> None:
    model = nn.Bilinear(3, 4, 2)
    x, y = random(5, 3), random(5, 4)
    with qc.torch.observe(model, modules=(nn.Bilinear,)) as cal:
        model(x, input2=y)
    assert cal == recorded({"Bilinear:input.0": [x], "Bilinear:input.1": [y]})


def test_only_a_forward_pass_that_raises_is_not_recorded() -> None:
    model, x = Failing(), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
        with pytest.raises(RuntimeError, match="between"):
            model(2 * x, fail=True)
        model(3 * x)
    assert cal == recorded(
        {"first": [x, 3 * x], "second": [model.first(x), model.first(3 * x)]}
    )


def test_after_an_exception_there_are_no_hooks_and_no_partial_records() -> None:
    model, x = Failing(), random(4, 6)
    given = qc.Calibrator()
    with (
        pytest.raises(RuntimeError, match="between"),
        qc.torch.observe(model, calibrator=given) as cal,
    ):
        model(x, fail=True)
    assert cal is given
    assert not given.names
    assert hooks_of(model) == 0
    model(x)
    assert not given.names


def test_an_interrupted_forward_pass_does_not_affect_the_next() -> None:
    class Interrupted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Any, stop: bool = False) -> Any:
            x = self.fc(x)
            if stop:
                raise KeyboardInterrupt
            return x

    model, x = Interrupted(), random(4, 6)
    with qc.torch.observe(model) as cal:
        with pytest.raises(KeyboardInterrupt):
            model(x, stop=True)
        model(2 * x)
    assert cal == recorded({"fc": [2 * x]})


def test_a_tensor_that_is_refused_names_its_module() -> None:
    model = nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 2))
    with (
        pytest.raises(TypeError, match='Tensor "0": elements of type int64'),
        qc.torch.observe(model, modules=(nn.Embedding, nn.Linear)) as cal,
    ):
        model(torch.tensor([1, 2]))
    assert not cal.names


def test_each_replica_in_a_thread_is_recorded_as_a_forward_pass() -> None:
    inner, x = Shared(2), random(8, 6)
    model = nn.DataParallel(inner)
    halves = list(x.chunk(2))
    with qc.torch.observe(model) as cal:
        replicas = []
        # torch.nn.parallel.replicate would make these replicas, but it needs a GPU.
        for _ in halves:
            replica = inner._replicate_for_data_parallel()
            replica.block = inner.block._replicate_for_data_parallel()
            replica.block.weight, replica.block.bias = (
                inner.block.weight,
                inner.block.bias,
            )
            replicas.append(replica)
        barrier = threading.Barrier(2)

        def run(replica: Any, part: Any) -> None:
            barrier.wait()
            replica(part)

        threads = [
            threading.Thread(target=run, args=pair)
            for pair in zip(replicas, halves, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Without a GPU DataParallel calls the module itself.
        assert model(x).shape == (8, 6)
    first, second = [*halves, x], [inner.block(part) for part in (*halves, x)]
    assert cal == recorded({"block#1": first, "block#2": second})
