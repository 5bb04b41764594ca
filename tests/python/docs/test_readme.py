"""The README's table beside other tools is that of the measurements."""

from __future__ import annotations

import re

from benches.accuracy.choice import readme
from paths import ROOT

TEXT = (ROOT / "README.md").read_text("utf-8")
REMEDY = "the table is out of date: run python -m benches.accuracy.choice.readme"


def test_the_table_beside_other_tools_is_that_of_the_page() -> None:
    networks = readme.read(readme.PAGE.read_text("utf-8"))
    assert len(networks) >= 7
    shown = TEXT.partition(readme.BEGIN)[2].partition(readme.END)[0].strip()
    assert shown == readme.table(networks), REMEDY


def test_rows_of_the_page_are_read() -> None:
    page = (
        "# T\n\n## Loss\n\n| auto | 1 |\n\n## net\n\nA kind. Samples: few.\n\n"
        + "\n".join(
            f"| {tool} | {loss} (1 – 2) | – | `y` | 1, 1 | 1 | – | 3 of 3 | 5.0 | 60 |"
            for tool, loss in zip(readme.TOOLS, (1e-9, 0.002, 0.001), strict=True)
        )
    )
    networks = readme.read(page + "\n\n## other\n\n| auto | 1 |\n")
    assert list(networks) == ["net"]
    assert networks["net"]["auto"] == (1e-9, 5.0, 60.0)
    table = readme.table(networks)
    # Losses below 1e-4 count as 1e-4.
    assert "mean | 1.0 × | 20.0 × | 10.0 × |" in table
    assert "least loss | 1 | 0 | 0 |" in table


def test_examples_take_the_default_strategy() -> None:
    blocks = re.findall(r"^```(?:python|sh)[^\n]*\n(.*?)^```", TEXT, re.M | re.S)
    assert len(blocks) >= 4
    for block in blocks:
        assert not re.search(r"--strategy|-s |strategy=|\"kl\"", block)


def test_what_it_promises_is_short() -> None:
    assert len(TEXT.splitlines()) <= 130
    assert TEXT.count("](docs/images/") == 1
