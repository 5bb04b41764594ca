"""Every strategy finds the same range on every machine, to the last bit."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from paths import GOLDEN
from scripts import load


def maker() -> ModuleType:
    return load("tests/golden/make_ranges.py")


@pytest.mark.parametrize("name", ["bell", "one-sided", "outliers"])
def test_ranges_have_the_bits_that_were_recorded(name: str) -> None:
    recorded = json.loads((GOLDEN / "ranges.json").read_text("utf-8"))
    found = maker().found(name)
    assert found == {key: recorded[key] for key in found}


def test_every_recorded_range_is_tested() -> None:
    recorded = json.loads((GOLDEN / "ranges.json").read_text("utf-8"))
    make = maker()
    assert {key.split(" | ")[0] for key in recorded} == set(make.NAMES)
    assert len({tuple(ends) for ends in recorded.values()}) > len(recorded) / 3
