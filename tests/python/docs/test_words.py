"""The lint of words finds what it should, and nothing in code, names and quotations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from language.findings import check_file
from language.spelling import american
from paths import ROOT
from reading.markdown import read_markdown
from reading.sentences import MOST_WORDS, Passage, split_sentences

LONG = f"It {'counts ' * MOST_WORDS}bins."


def findings(path: str, source: str) -> list[tuple[int, str, str]]:
    """Return line, kind and text of each finding."""
    return [(f.line, f.kind, f.text) for f in check_file(path, source)]


def sentences(text: str) -> list[tuple[int, int]]:
    """Return line and number of words of each sentence."""
    found = split_sentences(Passage("x.md", 1, text, "document"))
    return [(sentence.line, sentence.words) for sentence in found]


def test_a_long_sentence_of_a_document_is_found_with_its_line() -> None:
    found = findings("x.md", f"# Title\n\nShort. So\nis this. {LONG}\n")
    assert [(line, kind) for line, kind, _ in found] == [(4, "long")]
    assert found[0][2].startswith(f'{MOST_WORDS + 2} words in "It counts')


def test_a_sentence_of_the_greatest_length_is_not_found() -> None:
    assert findings("x.md", f"It {'counts ' * (MOST_WORDS - 2)}bins.\n") == []


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("What it is told.", "said"),
        ("It has a file of its own.", "own"),
        ("A bound foretells the rest.", "predicts"),
        ("No sample is at\nhand here.", "available"),
        ("It has half as much perplexity again.", "50 %"),
        ("The run goes on behind them.", "continues"),
        ("A run – if it fails – is resumed.", "dashes"),
    ],
)
def test_a_phrase_is_found_with_its_remedy(text: str, remedy: str) -> None:
    [finding] = check_file("x.md", text)
    assert finding.kind == "phrase"
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("british", "expected"),
    [
        ("quantised", "quantized"),
        ("Dequantising", "Dequantizing"),
        ("NEIGHBOURS", "NEIGHBORS"),
        ("centred", "centered"),
        ("analyse", "analyze"),
        ("greyish", "grayish"),
    ],
)
def test_british_spelling_is_translated(british: str, expected: str) -> None:
    assert american(british) == expected


@pytest.mark.parametrize(
    "word",
    [
        "raises",
        "noise",
        "otherwise",
        "precise",
        "rising",
        "pairwise",
        "analyses",
        "size",
        "color",
        "four",
        "center",
        "promised",
        "exercise",
        "our",
        "license",
        "emphasis",
        "parameter",
        "symmetric",
    ],
)
def test_american_words_are_left_alone(word: str) -> None:
    assert american(word) is None


def test_code_tables_names_and_quotations_are_left_alone() -> None:
    text = f"""\
Call `quantise` or ``told of its own`` as in
[the page](https://example.org/colour/of-its-own.html).

| a | b |
|---|---|
{"| one cell | another |" * MOST_WORDS}

```python
colour = told  # {LONG}
```

    colour = told  # indented code

<!-- colour -->
- {"an item " * 12}
- {"an item " * 12}
"""
    assert findings("x.md", text) == []


def test_sentences_end_at_full_stops_but_not_in_numbers_and_abbreviations() -> None:
    assert sentences("Keep 1.5 bits, e.g. of `a. b`. Then\nstop! **Why?** So.") == [
        (1, 6),
        (1, 2),
        (2, 1),
        (2, 1),
    ]
    assert sentences("Values a, b, … are counted, etc. by D. Knuth.") == [(1, 9)]


def test_items_headings_and_cells_are_passages_for_themselves() -> None:
    text = "# A head\n- one\n  more\n  1. two\n\n> said\n\n| a | b |\n|---|---|"
    found = [(p.line, p.text, p.running) for p in read_markdown(text, "x.md")]
    assert found == [
        (1, "A head", False),
        (2, "one\nmore", True),
        (4, "two", True),
        (6, "said", True),
        (8, "a", False),
        (8, "b", False),
    ]


PYTHON = f'''\
"""Quantise it.

Parameters
----------
colour
    {LONG}

>>> colour = told
"""

# A comment that is
# told over two lines.
neighbour = 1  # grey
lines = [
    "-isation", "raise ValueError('was told so') from error",
    f"the {{neighbour}} was told about it",
]
names = "one two three told four".split()
'''


def test_texts_and_names_of_python_are_read() -> None:
    found = {(line, kind, text) for line, kind, text in findings("x.py", PYTHON)}
    long = {(line, kind) for line, kind, _ in found if kind == "long"}
    assert long == {(6, "long")}
    assert {f for f in found if f[1] != "long"} == {
        (1, "spelling", '"Quantise"'),
        (5, "spelling", '"colour"'),
        (12, "phrase", '"told"'),
        (13, "spelling", '"neighbour"'),
        (13, "spelling", '"grey"'),
        (16, "phrase", '"told"'),
    }


RUST = f"""\
//! Quantise it.
//!
//! ```
//! let colour = told();
//! ```
/// {LONG}
fn neighbour<'a>(x: &'a str) -> char {{
    // It was
    // told so.
    let text = "a colour // of its own is no comment";
    let raw = r#"so we "told" you of it"#; /* grey */
    '"'
}}
"""


def test_texts_and_names_of_rust_are_read() -> None:
    found = set(findings("x.rs", RUST))
    assert {(line, kind) for line, kind, _ in found if kind == "long"} == {(6, "long")}
    assert {f for f in found if f[1] != "long"} == {
        (1, "spelling", '"Quantise"'),
        (7, "spelling", '"neighbour"'),
        (9, "phrase", '"told"'),
        (10, "spelling", '"colour"'),
        (10, "phrase", '"of its own"'),
        (11, "phrase", '"told"'),
        (11, "spelling", '"grey"'),
    }


def test_comments_of_a_makefile_are_read() -> None:
    text = "# What is told\n# here.\nrun:  ## Quantise it\n\techo colour#told\n"
    assert findings("Makefile", text) == [
        (1, "phrase", '"told"'),
        (3, "spelling", '"Quantise"'),
    ]


def test_the_name_of_a_file_is_read() -> None:
    assert findings("x/quantise.md", "") == [(1, "spelling", '"quantise"')]


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "tools" / "words.py"
    return subprocess.run(
        [sys.executable, script, "--root", root, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command_fails_with_findings_and_passes_without(tmp_path: Path) -> None:
    (tmp_path / "CONTRIBUTING.md").write_text("You are told.\n", "utf-8")
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (
        1,
        'CONTRIBUTING.md:1: phrase: "told"; write said, reported or passed\n',
    )
    assert "phrase    1" in run(tmp_path, "--summary").stdout
    (tmp_path / "CONTRIBUTING.md").write_text("You are right.\n", "utf-8")
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_words_of_the_project_are_in_order() -> None:
    done = run(ROOT)
    assert (done.returncode, done.stdout) == (0, "")
