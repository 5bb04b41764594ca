"""The tables of docs/reference/strategies.md are what the code does now."""

from __future__ import annotations

import re

import pytest

import quantcal as qc
from benches.accuracy import sqnr
from quantcal.comparison.api import STRATEGIES
from quantcal.strategies.registry import factories

DOC = sqnr.PAGE.read_text("utf-8")
REMEDY = "the table is out of date: run python -m benches.accuracy.sqnr"


def rows(format: str) -> dict[str, list[float]]:
    """The measured table of a format: method to decibels."""
    _, _, rest = DOC.partition(f"### {qc.QuantFormat(format)}\n")
    table, _, _ = rest.partition("\n### ")
    found = {}
    for line in table.splitlines():
        cells = [cell.strip(" *`") for cell in line.strip("| ").split("|")]
        if re.fullmatch(r"-?\d+\.\d", cells[-1]):
            found[cells[0]] = [float(cell) for cell in cells[1:]]
    return found


@pytest.mark.parametrize("column", [0, 3], ids=["Gaussian", "ReLU of Gaussian"])
@pytest.mark.parametrize("format", ["int8", "uint8", "int4", "float4_e2m1fn"])
def test_the_figures_are_measured_on_this_code(format: str, column: int) -> None:
    shown = rows(format)
    assert list(shown) == list(sqnr.METHODS)
    name = list(sqnr.DISTRIBUTIONS)[column]
    x = sqnr.samples(sqnr.SIZE)[name]
    for row in qc.compare(x, format, strategies=sqnr.METHODS.values()):
        # Printed to a tenth.
        measured = sqnr.sqnr(x, row.params)
        assert shown[row.strategy][column] == pytest.approx(measured, abs=0.051), REMEDY


def test_every_method_has_a_section() -> None:
    sections = set(re.findall(r"^## (\w+)$", DOC, re.MULTILINE))
    # A strategy with several names has its section under the first.
    names = {factory: name for name, factory in reversed(factories().items())}
    assert {names[type(strategy)] for strategy in STRATEGIES} <= sections


def test_what_it_concludes_is_in_its_tables() -> None:
    for format in ("int8", "uint8", "int4", "uint4", "float8_e4m3fn", "float4_e2m1fn"):
        shown = rows(format)
        for column, best in enumerate(map(max, zip(*shown.values(), strict=True))):
            assert shown["mse"][column] >= best - 0.1
    gaussian, laplace, heavy, relu, outliers = range(5)
    for format in ("int8", "uint8"):
        mse, kl = rows(format)["mse"], rows(format)["kl"]
        lost = [a - b for a, b in zip(mse, kl, strict=True)]
        assert all(0.05 <= lost[i] <= 1.35 for i in (gaussian, laplace, relu))
        assert 2.5 <= lost[heavy] <= 4
        assert 11.5 <= lost[outliers] <= 13.5
    e4m3 = rows("float8_e4m3fn")
    assert all(a - b <= 0.45 for a, b in zip(e4m3["mse"], e4m3["minmax"], strict=True))
