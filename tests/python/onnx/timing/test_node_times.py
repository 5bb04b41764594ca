"""`NodeTimes`: what follows from times that were made up, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import quantcal as qc
from quantcal.onnx import Latency, Machine, NodeTime, NodeTimes

FAST = NodeTime(
    op_type="Conv",
    float_ms=4.0,
    integer_ms=1.5,
    conversion_ms=0.5,
    spread_ms=0.25,
    rounds_won=1.0,
    multiply_adds=1000,
    float_kernel="FusedConv",
    kernel="QLinearConv",
    quantized=True,
    reason="",
    fused=("relu",),
)


def times(**nodes: NodeTime) -> NodeTimes:
    return NodeTimes(
        nodes=nodes,
        float_latency=Latency(10.0, 0.5),
        integer_latency=Latency(8.0, 0.25),
        rounds_won=0.9,
        other_float_ms=0.5,
        other_integer_ms=0.25,
        samples=2,
        rounds=20,
        machine=Machine("no-vnni", "A CPU", 1, 8, "1.32.0"),
    )


def example() -> NodeTimes:
    return times(
        fast=FAST,
        deep=replace(FAST, float_ms=1.0, rounds_won=0.1, multiply_adds=90, fused=()),
        noisy=replace(FAST, float_ms=1.75, rounds_won=0.7, multiply_adds=80),
        lucky=replace(FAST, float_ms=1.25, rounds_won=0.8, multiply_adds=70),
        up=replace(FAST, kernel="ConvTranspose", reason="no kernel", rounds_won=0.0),
        relu6=replace(
            FAST,
            op_type="Clip",
            quantized=False,
            reason="left in float",
            rounds_won=0.0,
        ),
        équal=replace(FAST, float_ms=1.5, rounds_won=0.5),
    )


def test_a_node_is_faster_by_its_median_and_three_of_four_rounds() -> None:
    assert replace(FAST, rounds_won=0.75).is_faster
    assert not replace(FAST, rounds_won=0.74).is_faster
    assert not replace(FAST, float_ms=1.5).is_faster
    assert not replace(FAST, float_ms=1.0).is_faster


def test_quantized_nodes_that_are_not_faster_are_named_the_slowest_first() -> None:
    assert example().not_faster() == ("deep", "lucky", "équal", "noisy", "up")


def test_times_of_nodes_and_of_the_rest_add_up() -> None:
    found = times(fast=FAST, deep=replace(FAST, float_ms=1.0))
    assert (found.float_ms, found.integer_ms) == (4 + 1 + 0.5, 3 + 0.25)
    assert found.conversion_ms == 1.0
    assert found.gain_ms == 2.0


def test_benefits_are_milliseconds_on_the_measured_kind_of_processor() -> None:
    gains = {"fast": 2.5, "deep": -0.5, "noisy": 0.25, "lucky": -0.25, "up": 2.5}
    for cpu in (None, "no-vnni"):
        assert example().benefits(cpu) == {**gains, "équal": 0.0}


def test_benefits_are_multiply_adds_on_another_kind_of_processor() -> None:
    counts = {"fast": 1000, "deep": 90, "noisy": 80, "lucky": 70, "up": 0}
    for cpu in ("vnni", "arm"):
        assert example().benefits(cpu) == {**counts, "équal": 1000}
    with pytest.raises(
        qc.CalibrationError, match=r"cpu='avx' is not known\. Known: auto"
    ):
        example().benefits("avx")


def test_this_machine_is_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "quantcal.onnx._options.cpu.platform.machine", lambda: "aarch64"
    )
    assert example().benefits("auto")["fast"] == 1000
    arm = replace(example(), machine=replace(example().machine, cpu="arm"))
    assert arm.benefits("auto")["fast"] == 2.5


def test_a_model_without_a_gain_is_warned_of() -> None:
    slow = replace(example(), rounds_won=0.5)
    (warning,) = slow.warnings()
    assert warning == (
        "integers gain nothing on this machine (A CPU, no-vnni): a sample takes 10 ± 0.5 "
        "ms in float, 8 ± 0.25 ms quantized"
    )
    assert slow.is_faster is False
    assert example().warnings() == ()


def test_a_disturbed_measurement_is_warned_of() -> None:
    busy = replace(example(), float_latency=Latency(90.0, 1.0))
    (warning,) = busy.warnings()
    assert "Measure on an idle machine" in warning


def test_the_file_gives_back_all_figures(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    example().save(path)
    found = NodeTimes.load(path)
    assert found == example()
    assert list(found.nodes) == list(example().nodes)
    content = json.loads(path.read_text("utf-8"))
    assert content["kind"] == "quantcal node times"
    assert content["nodes"]["fast"]["fused"] == ["relu"]
    before = path.read_bytes()
    found.save(path)
    assert path.read_bytes() == before


def change(*way: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def edit(content: dict[str, Any]) -> None:
        for key in way[:-1]:
            content = content[key]
        if to is None:
            del content[way[-1]]
        else:
            content[way[-1]] = to

    return edit


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "kind": (change("kind", to="x"), "not a file of times that quantcal wrote"),
    "newer": (change("version", to=2), "version 2 is newer than 1; upgrade quantcal"),
    "version": (change("version", to="1"), "version is '1', but it must be 1"),
    "no nodes": (change("nodes", to=None), "nodes is None, but it must hold times"),
    "nodes": (change("nodes", to=[]), r"nodes is \[\], but it must hold times"),
    "node": (change("nodes", "deep", to=3), 'node "deep": it is 3, but it must be an'),
    "missing": (
        change("nodes", "deep", "float_ms", to=None),
        'node "deep": float_ms is missing',
    ),
    "NaN": (
        change("nodes", "deep", "float_ms", to=float("nan")),
        'node "deep": float_ms is nan, but it must be a number',
    ),
    "text": (
        change("nodes", "deep", "integer_ms", to="1"),
        "integer_ms is '1', but it must be a number",
    ),
    "bool": (
        change("nodes", "deep", "float_ms", to=True),
        "float_ms is True, but it must be a number",
    ),
    "number": (
        change("nodes", "deep", "quantized", to=1),
        "quantized is 1, but it must be true or false",
    ),
    "count": (
        change("nodes", "deep", "multiply_adds", to=-1),
        "multiply_adds is -1, but it must be a whole number",
    ),
    "texts": (
        change("nodes", "deep", "fused", to=["a", 1]),
        r"fused is \['a', 1\], but it must be a list of texts",
    ),
    "unknown": (
        change("nodes", "deep", "gain", to=1),
        'node "deep": "gain" is not known; it has op_type, float_ms',
    ),
    "machine": (
        change("machine", "cpu", to=5),
        "machine: cpu is 5, but it must be text",
    ),
    "no machine": (change("machine", to=None), "machine is missing"),
    "latency": (
        change("float_latency", "median_ms", to=None),
        "float_latency: median_ms is missing",
    ),
    "rounds": (
        change("rounds", to=2.5),
        "rounds is 2.5, but it must be a whole number",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_file_is_refused_by_its_name(fault: str, tmp_path: Path) -> None:
    edit, message = FAULTS[fault]
    path = tmp_path / "t.json"
    example().save(path)
    content = json.loads(path.read_text("utf-8"))
    edit(content)
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(qc.CalibrationError, match=message) as raised:
        NodeTimes.load(path)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize("data", [b"", b"\xff", b"[1]", b"{", b"[" * 100_000])
def test_no_json_is_refused_by_its_name(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(qc.CalibrationError, match="not a file of times") as raised:
        NodeTimes.load(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(
        qc.CalibrationError, match=r"none\.json cannot be read: No such"
    ):
        NodeTimes.load(path)
