"""`quantcal compare` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import quantcal as qc
from cli_runs import call, run_in_terminal, run_without, save_stats
from quantcal.comparison.api import STRATEGIES

NAMES = [str(strategy) for strategy in STRATEGIES]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def stats(tmp_path: Path) -> Path:
    return save_stats(tmp_path)


def column(out: str, heading: str) -> list[str]:
    """The first column of the table whose first heading it is."""
    _, _, rest = out.partition(f"\n{heading} ")
    table, _, _ = rest.partition("\n\n")
    return [line.split("  ")[0] for line in table.splitlines()[2:]]


def test_the_summary_comes_first_then_the_worst_tensors(stats: Path) -> None:
    done = call("compare", stats, "--activation-type", "uint8", "--limit", 3)
    assert done.code == 0
    assert done.facts["format"] == "uint8 (affine)"
    assert done.facts["tensors"] == "10"
    assert column(done.out, "strategy") == NAMES
    assert "Worst 3 of 8 tensors" in done.out  # two have no finite values
    best = qc.compare(qc.load(stats), "uint8").best_of_each()
    finite = [row for row in best if best.histograms[row.tensor].finite]
    worst = sorted(finite, key=lambda row: row.sqnr_db)[:3]
    assert column(done.out, "tensor") == [row.tensor for row in worst]
    assert "broken, only_nan" in done.err


def test_one_tensor_shows_all_figures(stats: Path) -> None:
    done = call("compare", stats, "--tensor", "ширина", "-s", "mse", "-s", "kl")
    assert column(done.out, "strategy") == ["mse", "kl"]
    for heading in (
        "low",
        "clipped",
        "to zero",
        "SQNR",
        "cosine",
        "KL / nat",
        "time / ms",
    ):
        assert heading in done.out
    assert "Worst" not in done.out
    assert "SQNR" in done.out


@pytest.mark.parametrize("key", ["sqnr_db", "mse", "code_entropy", "strategy"])
@pytest.mark.parametrize("tensor", [None, "broken"])
def test_sorting_puts_the_best_first(stats: Path, key: str, tensor: str | None) -> None:
    only = () if tensor is None else ("--tensor", tensor)
    shown = column(call("compare", stats, "--sort", key, *only).out, "strategy")
    comparison = qc.compare(
        qc.load(stats), tensors=None if tensor is None else [tensor]
    )
    figures = {name: [] for name in NAMES}
    for row in comparison:
        if comparison.histograms[row.tensor].finite and key != "strategy":
            figures[row.strategy].append(getattr(row, key))
    if key == "strategy":
        assert shown == sorted(NAMES)
    else:
        medians = [np.median(figures[name]) for name in shown]
        assert medians == sorted(medians, reverse=key != "mse")


def test_json_has_every_row_and_the_summary(stats: Path) -> None:
    done = call(
        "compare",
        stats,
        "--json",
        "-s",
        "mse",
        "-s",
        "minmax",
        "--activation-type",
        "int4",
    )
    content = json.loads(done.out)
    assert content["kind"] == "comparison"
    assert content["format"] == "int4 (symmetric)"
    assert [each["strategy"] for each in content["summary"]] == ["mse", "minmax"]
    assert len(content["rows"]) == 20
    expected = qc.compare(
        qc.load(stats), "int4", strategies=["mse", "minmax"]
    ).records()
    found = {(row["tensor"], row["strategy"]): row for row in content["rows"]}
    for row in expected:
        assert {**found[row["tensor"], row["strategy"]], "seconds": 0} == {
            **row,
            "seconds": 0,
        }


def test_a_picture_is_written(stats: Path, tmp_path: Path) -> None:
    path = tmp_path / "ширина.png"
    done = call("compare", stats, "--tensor", "ширина", "--plot", path)
    assert done.facts["written"] == str(path)
    assert path.read_bytes().startswith(PNG)
    svg = tmp_path / "x.svg"
    assert (
        call("compare", stats, "--tensor", "ширина", "--plot", svg, "--json").code == 0
    )
    assert b"<svg" in svg.read_bytes()


def test_what_is_wrong_is_told(stats: Path, tmp_path: Path) -> None:
    message = call("compare", stats, "--tensor", "constan").error_text()
    assert message.startswith('Tensor "constan" was never observed (10 tensors were).')
    assert "constant" in message
    assert 'Did you mean "kl"' in call("compare", stats, "-s", "kll").error_text()
    assert (
        "given 2 times" in call("compare", stats, "-s", "kl", "-s", "kl").error_text()
    )
    picture = tmp_path / "x.what"
    message = call(
        "compare", stats, "--tensor", "constant", "--plot", picture
    ).error_text()
    assert 'cannot end in ".what"; take one of' in message
    assert not picture.exists()
    missing = tmp_path / "no" / "x.png"
    message = call(
        "compare", stats, "--tensor", "constant", "--plot", missing
    ).error_text()
    assert str(missing) in message
    several = call("compare", stats, "--plot", picture)
    assert several.code == 2
    assert "--tensor" in several.err


def test_without_matplotlib_it_says_how_to_install_it(
    stats: Path, tmp_path: Path
) -> None:
    chosen = ["compare", stats, "--tensor", "constant"]
    assert run_without(["matplotlib"], *chosen).code == 0
    message = run_without(
        ["matplotlib"], *chosen, "--plot", tmp_path / "x.png"
    ).error_text()
    assert (
        message
        == 'Pictures need matplotlib. Install it with: pip install "quantcal[plot]"'
    )


def test_it_fits_a_narrow_terminal(stats: Path) -> None:
    lines = run_in_terminal(80, "compare", stats, "--limit", 2)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert re.search(r"^strategy +median SQNR", text, re.MULTILINE)
    assert "min SQNR" in text
