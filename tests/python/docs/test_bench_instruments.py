"""The benches' own instruments judge rightly: verdicts, what became slower, growth."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

import quantcal as qc
from paths import ROOT

FOLDER = ROOT / "benches" / "python"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The modules under test; their short names are no one else's afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        names = ("figures", "recorded", "shapes", "scaling_picture")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def figure(bench, seconds, yardstick, **target):
    sheet = bench.figures.Sheet("group")
    sheet.add(
        "work", "1 core", seconds, unit="s", yardstick=("copy", yardstick), **target
    )
    return sheet.figures[0]


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ({"at_most": 2.0}, "reached"),
        ({"at_most": 1.9}, "missed"),
        ({"at_least": 2.0}, "reached"),
        ({"at_least": 2.1}, "missed"),
        ({}, ""),
    ],
)
def test_a_target_is_judged_by_the_median(bench, target, verdict):
    assert figure(bench, [9.0, 1.0, 2.0], [1.0], **target).verdict == verdict


def test_a_slower_machine_is_not_slower_work(bench):
    then = figure(bench, [1.0, 1.01, 1.02], [0.5, 0.5])
    now = figure(bench, [2.0, 2.02, 2.04], [1.0, 1.0])
    assert not bench.recorded.is_slower(now, then)


def test_work_that_takes_longer_than_its_yardstick_did_is_slower(bench):
    then = figure(bench, [2.0, 2.02, 2.04], [1.0, 1.0])
    now = figure(bench, [1.3, 1.31, 1.32], [0.5, 0.5])  # on a machine twice as fast
    assert bench.recorded.is_slower(now, then)
    assert not bench.recorded.is_slower(then, now)


def test_what_overlaps_with_the_recorded_rounds_is_noise(bench):
    then = figure(bench, [1.0, 1.0, 1.6], [1.0])
    now = figure(bench, [1.5, 1.5, 1.7], [1.0])
    assert not bench.recorded.is_slower(now, then)


def test_results_of_other_groups_stay_in_the_file(bench, tmp_path):
    machine = {"date": "2026-01-01", "commit": "abc"}
    path = tmp_path / "results.json"
    for group in ("one", "two"):
        sheet = bench.figures.Sheet(group)
        sheet.add("work", "1 core", [1.0], unit="s", yardstick=("copy", [0.5]))
        bench.recorded.write(path, machine, [sheet])
    run = json.loads(path.read_text())
    assert list(run["groups"]) == ["one", "two"]
    read = bench.recorded._figure(run["groups"]["one"]["figures"][0])
    assert read == sheet.figures[0]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_fitted_growth_is_that_of_a_power_law(bench, power):
    points = [{"size": n, "seconds": 3.0 * n**power} for n in (10, 100, 1000, 10000)]
    exponent, off = bench.scaling_picture.slope(points, "seconds")
    assert exponent == pytest.approx(power)
    assert off == pytest.approx(1)


def test_a_step_shows_as_distance_from_the_line(bench):
    points = [{"size": n, "seconds": float(n)} for n in (1, 10, 100, 1000, 10000)]
    points[-2]["seconds"] *= 4
    assert bench.scaling_picture.slope(points, "seconds")[1] > 2


def test_counts_by_definition_are_those_of_single_values(bench):
    x = np.array([0.0, -0.0, 1.0, 1.001, 1.5, -1.0, -2.0, -2.0], dtype=np.float32)
    assert bench.shapes.code_counts(x, 8).tolist() == [2, 1, 2, 2, 1]
    assert qc.Histogram().observe(x).bins()[2].tolist() == [2, 1, 2, 2, 1]
