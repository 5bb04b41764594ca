"""The harness of the benches: verdicts, what counts as slower, fitted growth, its table."""

from __future__ import annotations

import json

import numpy as np
import pytest

import quantcal as qc
from benches.harness import figures, records, shapes, table
from benches.system import scaling_picture


def figure(seconds, yardstick, **target):
    sheet = figures.Sheet("group")
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
def test_a_target_is_judged_by_the_median(target, verdict):
    assert figure([9.0, 1.0, 2.0], [1.0], **target).verdict == verdict


def test_a_slower_machine_is_not_slower_work():
    then = figure([1.0, 1.01, 1.02], [0.5, 0.5])
    now = figure([2.0, 2.02, 2.04], [1.0, 1.0])
    assert not records.is_slower(now, then)


def test_work_that_takes_longer_than_its_yardstick_did_is_slower():
    then = figure([2.0, 2.02, 2.04], [1.0, 1.0])
    now = figure([1.3, 1.31, 1.32], [0.5, 0.5])  # on a machine twice as fast
    assert records.is_slower(now, then)
    assert not records.is_slower(then, now)


def test_what_overlaps_with_the_recorded_rounds_is_noise():
    then = figure([1.0, 1.0, 1.6], [1.0])
    now = figure([1.5, 1.5, 1.7], [1.0])
    assert not records.is_slower(now, then)


def test_results_of_other_groups_stay_in_the_file(tmp_path):
    machine = {"date": "2026-01-01", "commit": "abc"}
    path = tmp_path / "results.json"
    for group in ("one", "two"):
        sheet = figures.Sheet(group)
        sheet.add("work", "1 core", [1.0], unit="s", yardstick=("copy", [0.5]))
        records.write(path, machine, [sheet])
    run = json.loads(path.read_text())
    assert list(run["groups"]) == ["one", "two"]
    read = records._figure(run["groups"]["one"]["figures"][0])
    assert read == sheet.figures[0]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_fitted_growth_is_that_of_a_power_law(power):
    points = [{"size": n, "seconds": 3.0 * n**power} for n in (10, 100, 1000, 10000)]
    exponent, off = scaling_picture.slope(points, "seconds")
    assert exponent == pytest.approx(power)
    assert off == pytest.approx(1)


def test_a_step_shows_as_distance_from_the_line():
    points = [{"size": n, "seconds": float(n)} for n in (1, 10, 100, 1000, 10000)]
    points[-2]["seconds"] *= 4
    assert scaling_picture.slope(points, "seconds")[1] > 2


def test_counts_by_definition_are_those_of_single_values():
    x = np.array([0.0, -0.0, 1.0, 1.001, 1.5, -1.0, -2.0, -2.0], dtype=np.float32)
    assert shapes.code_counts(x, 8).tolist() == [2, 1, 2, 2, 1]
    assert qc.Histogram().observe(x).bins()[2].tolist() == [2, 1, 2, 2, 1]


def test_the_table_in_the_readme_is_that_of_the_record():
    path = max(records.FOLDER.glob("*.json"))
    run = json.loads(path.read_text("utf-8"))
    shown = table.PAGE.read_text("utf-8").partition(table.BEGIN)[2]
    shown = shown.partition(table.END)[0].strip()
    remedy = "the table is out of date: run python -m benches.harness.table"
    assert shown == table.table(run), remedy


def test_every_recorded_group_has_a_bench():
    from benches.__main__ import GROUPS

    for path in records.FOLDER.glob("*.json"):
        assert set(json.loads(path.read_text("utf-8"))["groups"]) <= set(GROUPS)
