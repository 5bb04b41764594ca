"""Sparklines, numbers and names, as they stand in the tables of the command."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import quantcal as qc
from quantcal.cli.output import text
from quantcal.cli.output.sparkline import draw_sparkline
from quantcal.cli.output.tables import Column, tensor_table
from quantcal.cli.rules import parse_strategy

BLOCKS = " ▁▂▃▄▅▆▇█"


def drawn(values: list[float], width: int = 20) -> str:
    return draw_sparkline(qc.Histogram().observe(np.array(values, np.float32)), width)


def test_an_outlier_is_a_crumb_far_from_a_block() -> None:
    assert drawn([0.0] * 1000 + [0.5] * 100 + [95.0], 10) == "█        ▁"


def test_a_constant_is_one_block_and_nothing_draws_nothing() -> None:
    assert drawn([2.5] * 7) == "█"
    assert drawn([0.0]) == "█"
    assert drawn([]) == ""
    assert drawn([float("nan"), float("inf")]) == ""


def test_values_that_are_all_single_draw_equal_low_blocks() -> None:
    assert drawn([0, 1, 2, 3], 4) == "▁▁▁▁"


def test_extreme_floats_have_their_places() -> None:
    largest = float(np.finfo(np.float32).max)
    assert drawn([-largest, largest], 5) == "▁   ▁"
    assert drawn([1e-45, 3e-45], 2) == "▁▁"


def test_terminals_without_blocks_get_ascii() -> None:
    h = qc.Histogram().observe(np.array([0.0] * 1000 + [9.0], np.float32))
    assert draw_sparkline(h, 4, ascii_only=True) == "@  ."


@given(
    st.lists(st.integers(-100, 100), min_size=1, max_size=200),
    st.integers(2, 40),
)
def test_heights_rise_with_numpys_counts(numbers: list[int], width: int) -> None:
    """Small integers are exact in float16, so numpy counts the same bins."""
    values = np.array(numbers, np.float16)
    line = draw_sparkline(qc.Histogram().observe(values), width)
    if values.min() == values.max():
        assert line == "█"
        return
    ends = (float(values.min()), float(values.max()))
    counts, _ = np.histogram(values.astype(np.float64), width, ends)
    heights = [BLOCKS.index(block) for block in line]
    assert len(line) == width
    assert [h > 0 for h in heights] == [count > 0 for count in counts]
    order = np.argsort(counts, kind="stable")
    assert np.all(np.diff(np.array(heights)[order]) >= 0)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10K"),
        (65_536, "65.5K"),
        (999_499, "999K"),
        (999_600, "1M"),
        (312_000_000, "312M"),
        (2**63, "9.22E"),
    ],
)
def test_counts_are_short(count: int, shown: str) -> None:
    assert text.amount(count) == shown


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (0.0, "0 %"),
        (1e-12, "<0.001 %"),
        (0.00012, "0.012 %"),
        (0.0243, "2.43 %"),
        (0.13909, "13.9 %"),
        (0.99998, ">99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_never_round_to_none_or_all(part: float, shown: str) -> None:
    assert text.share(part) == shown


def test_sizes_and_lists_read_well() -> None:
    assert text.size(1_530) == "1.5 KB"
    assert text.size(10_900_000) == "10.9 MB"
    assert text.size(3_210_000_000) == "3.21 GB"
    assert text.plural(1, "tensor") == "1 tensor"
    assert text.plural(1200, "tensor") == "1,200 tensors"
    assert text.listed(["a", "b"]) == "a, b"
    assert text.listed(list("abcdefg"), 5) == "a, b, c, d, e and 2 more"
    assert text.real(None) == text.NONE
    assert text.decibels(float("inf")) == "exact"


def test_cut_names_keep_what_tells_them_apart() -> None:
    names = [f"/model/layers.{n}/self_attn/qkv_proj/MatMul_output_0" for n in range(12)]
    cut = text.shorten(names, 24)
    assert len(set(cut)) == 12
    assert all(len(name) <= 24 for name in cut)
    assert cut[11].startswith("/model/layers.11")
    ends = [f"/a/very/long/prefix/that/all/names/share/{n}" for n in range(12)]
    assert len(set(text.shorten(ends, 10))) == 12


@given(
    st.lists(st.text("ab./0123", min_size=1, max_size=60), unique=True, max_size=20),
    st.integers(3, 70),
)
def test_cut_names_fit_and_short_ones_stay(names: list[str], width: int) -> None:
    cut = text.shorten(names, width)
    assert len(cut) == len(names)
    for name, shown in zip(names, cut, strict=True):
        assert len(shown) <= width
        if len(name) <= width:
            assert shown == name
        else:
            head, tail = shown.split("…")
            assert name.startswith(head)
            assert name.endswith(tail)


def table_text(width: int, names: list[str]) -> list[str]:
    columns = [
        Column("always", ["1.5"] * len(names)),
        Column("first to go", ["x" * 20] * len(names), rank=2),
        Column("second to go", ["y" * 20] * len(names), rank=1),
    ]
    out = Console(file=io.StringIO(), width=width, force_terminal=False)
    out.print(tensor_table(names, columns, out))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def test_narrow_tables_lose_columns_by_rank_and_never_a_line() -> None:
    names = [f"/model/layers.{n}/a_long_module_name/MatMul" for n in range(12)]
    for width, headings in (
        (120, ["always", "first to go", "second to go"]),
        (70, ["always", "second to go"]),
        (50, ["always"]),
        (30, ["always"]),
    ):
        lines = table_text(width, names)
        assert len(lines) == len(names) + 2
        assert all(len(line) <= width for line in lines)
        for heading in ("always", "first to go", "second to go"):
            assert (heading in lines[0]) == (heading in headings), width


def test_brackets_in_names_are_no_markup() -> None:
    assert table_text(120, ["[bold]x[/bold][0]"])[2].startswith("[bold]x[/bold][0] ")


def test_strategies_are_parsed_in_order_and_the_plain_one_comes_last() -> None:
    assert parse_strategy(None) == "mse"
    assert parse_strategy(["kl"]) == "kl"
    rules = parse_strategy(["mse", "*a*=kl", "x=y=minmax"])
    assert isinstance(rules, dict)
    assert list(rules.items()) == [("*a*", "kl"), ("x=y", "minmax"), ("*", "mse")]
