"""Policies in files: read as written, and every mistake named by file and rule."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc
from paths import ROOT

TOML = r"""
# The embedding holds what it holds.
[[rules]]
pattern = "*embed*"
strategy = "minmax"

[[rules]]
pattern = 're:\.(q|k)_proj$'
strategy = "kl"
num_bins = 4096

[[rules]]
pattern = "*"
strategy = "percentile"
percentile = 99.9
"""
POLICY = qc.Policy(
    {
        "*embed*": "minmax",
        r"re:\.(q|k)_proj$": qc.KL(4096),
        "*": qc.Percentile(99.9),
    }
)


def written(folder: Path, text: str | bytes, name: str = "policy.toml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_toml_and_json_hold_the_same_rules(tmp_path: Path) -> None:
    assert qc.Policy.load(written(tmp_path, TOML)) == POLICY
    rules = [
        {"pattern": "*embed*", "strategy": "minmax"},
        {"pattern": r"re:\.(q|k)_proj$", "strategy": "kl", "num_bins": 4096},
        {"pattern": "*", "strategy": "percentile_99.9"},
    ]
    path = written(tmp_path, json.dumps({"rules": rules}), "policy.JSON")
    assert qc.Policy.load(str(path)) == POLICY
    inline = 'rules = [{pattern = "*", strategy = "mse"}]'
    assert qc.Policy.load(written(tmp_path, inline)) == qc.Policy({"*": "mse"})


@pytest.mark.parametrize("text", [TOML.replace("\n", "\r\n"), "\ufeff" + TOML])
def test_files_of_windows_are_read(text: str, tmp_path: Path) -> None:
    assert qc.Policy.load(written(tmp_path, text)) == POLICY


def test_a_path_is_taken_wherever_a_strategy_is(tmp_path: Path) -> None:
    cal = qc.Calibrator()
    cal.observe("h.0.q_proj", np.linspace(-1, 1, 100, dtype=np.float32))
    path = written(tmp_path, TOML)
    table = cal.compute(path)
    assert table == cal.compute(POLICY)
    assert table["h.0.q_proj"].strategy == "kl(num_bins=4096)"
    assert table.unused_rules == ("*embed*",)
    assert qc.calibrate(cal["h.0.q_proj"], path).strategy == "percentile_99.9"
    with pytest.raises(
        qc.CalibrationError, match=r'give pathlib.Path\("policy.toml"\)'
    ):
        cal.compute("policy.toml")


PATTERNS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(
        ["re:\\d'\\", "re:\\.x", 'a"b', "a\x7fb", "\U0001f600", "layer:lm_head"]
    ),
).filter(
    lambda p: not p.startswith(("re:", "layer:")) or p in {"layer:lm_head", "re:\\.x"}
)
STRATEGIES = st.one_of(
    st.sampled_from([qc.MinMax(), qc.MSE(), qc.KL()]),
    st.builds(qc.KL, st.integers(1, 1 << 24)),
    st.builds(qc.Percentile, st.floats(1, 100) | st.integers(1, 100)),
)
POLICIES = st.dictionaries(PATTERNS, STRATEGIES, min_size=1, max_size=5).map(qc.Policy)


@given(POLICIES)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, policy: qc.Policy
) -> None:
    assert qc.Policy(policy.to_dict()) == policy
    folder = tmp_path_factory.mktemp("policies")
    for name in ("policy.toml", "policy.json"):
        policy.save(folder / name)
        assert qc.Policy.load(folder / name) == policy


def test_digits_of_a_percentile_are_kept() -> None:
    for percentile in (99.99999999, 1.0000001, 33.3333333333333357):
        policy = qc.Policy({"*": qc.Percentile(percentile)})
        assert qc.Policy(policy.to_dict()) == policy


def test_the_file_is_as_a_person_would_write_it(tmp_path: Path) -> None:
    POLICY.save(tmp_path / "policy.toml")
    assert (tmp_path / "policy.toml").read_text("utf-8") == (
        '[[rules]]\npattern = "*embed*"\nstrategy = "minmax"\n\n'
        "[[rules]]\npattern = 're:\\.(q|k)_proj$'\nstrategy = \"kl\"\n"
        "num_bins = 4096\n\n"
        '[[rules]]\npattern = "*"\nstrategy = "percentile_99.9"\n'
    )


def rule(**fields: Any) -> str:
    return json.dumps({"rules": [{"pattern": "a*", "strategy": "mse"}, fields]})


WRONG: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("p.toml", "", "p.toml: there are no rules; write for instance: rules = "),
    "empty list": ("p.json", '{"rules": []}', 'no rules; write.*"rules": .*"pattern"'),
    "empty json": ("p.json", "", "p.json is not valid JSON: .*line 1 column 1"),
    "bad toml": ("p.toml", "rules = [\n1,\n= 3]", "p.toml is not valid TOML: .*line 3"),
    "bad json": ("p.json", '{"rules":\n [,]}', "p.json is not valid JSON: .*line 2"),
    "deep": ("p.json", "[" * 200_000, "p.json is not valid JSON"),
    "bytes": ("p.toml", b"rules = \xff", "p.toml is not UTF-8 text: byte 8 is 0xff"),
    "json list": ("p.json", "[]", "a policy is an object .*not a list"),
    "top key": ("p.toml", "rule = []", 'key "rule" is not known.*Did you mean "rules"'),
    "table": (
        "p.toml",
        '[rules]\n"*" = "mse"',
        r'"rules" must be a list of rules, not a table: .*; write for instance: rules = \[',
    ),
    "a name": (
        "p.toml",
        'rules = ["mse"]',
        "p.toml: rule 1: a rule must .* is text: 'mse'",
    ),
    "no pattern": ("p.json", rule(strategy="kl"), 'rule 2: "pattern" is missing'),
    "no strategy": (
        "p.json",
        rule(pattern="*", stratgy="kl"),
        r'rule 2 \("\*"\): "strategy" is missing; the rule has "pattern", "stratgy"',
    ),
    "number": (
        "p.json",
        rule(pattern="*", strategy=3),
        '"strategy" must be text, not a number: 3',
    ),
    "null": (
        "p.json",
        rule(pattern=None, strategy="kl"),
        'rule 2: "pattern" .* not null',
    ),
    "unknown": (
        "p.json",
        rule(pattern="*", strategy="kll"),
        r'p.json: rule 2 \("\*"\): Strategy "kll" is not known. Did you mean "kl"',
    ),
    "option": (
        "p.json",
        rule(pattern="*", strategy="kl", bins=3),
        r'rule 2 \("\*"\): Strategy "kl" has no option "bins"; it takes num_bins',
    ),
    "type": (
        "p.json",
        rule(pattern="*", strategy="kl", num_bins="3"),
        r"rule 2 \(\"\*\"\): .*num_bins is '3', but it must be a whole number",
    ),
    "regex": (
        "p.json",
        rule(pattern="re:(", strategy="kl"),
        r"rule 2 .* at position 0",
    ),
    "layer": (
        "p.json",
        rule(pattern="layer:x", strategy="kl"),
        'rule 2 .*"x" is not known',
    ),
    "twice": (
        "p.json",
        rule(pattern="a*", strategy="kl"),
        r'rule 2 \("a\*"\) has the pattern of rule 1 again',
    ),
    "key twice": (
        "p.json",
        '{"rules": [{"pattern": "a", "pattern": "b", "strategy": "kl"}]}',
        'key "pattern" occurs twice',
    ),
    "kind": (
        "p.yaml",
        "rules: []",
        r"p.yaml: a policy file is called \*.toml or \*.json",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_in_a_file_is_named(case: str, tmp_path: Path) -> None:
    name, text, message = WRONG[case]
    with pytest.raises(qc.CalibrationError, match=message) as error:
        qc.Policy.load(written(tmp_path, text, name))
    assert str(error.value).startswith(str(tmp_path / name))


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        qc.CalibrationError, match=r"p\.toml cannot be read: No such file"
    ):
        qc.Policy.load(tmp_path / "p.toml")
    with pytest.raises(
        qc.CalibrationError, match=r"x/p\.json cannot be written: No such"
    ):
        POLICY.save(tmp_path / "x" / "p.json")
    with pytest.raises(qc.CalibrationError, match=r"p.yml: a policy file is called \*"):
        POLICY.save(tmp_path / "p.yml")
    half = qc.Policy({"\ud800": "mse"})
    with pytest.raises(
        qc.CalibrationError, match=r"p\.toml cannot be written: .* surrogate"
    ):
        half.save(tmp_path / "p.toml")
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_the_guide_are_what_is_written(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guide" / "policies.md").read_text("utf-8")
    (toml,) = re.findall(r"^```toml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (as_json,) = re.findall(r"^```json\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    policy = qc.Policy.load(written(tmp_path, toml))
    assert qc.Policy.load(written(tmp_path, as_json, "policy.json")) == policy
    policy.save(tmp_path / "again.toml")
    assert (tmp_path / "again.toml").read_text("utf-8") == toml


def test_the_guide_lists_the_rules_of_llm_layers() -> None:
    guide = (ROOT / "docs" / "guide" / "policies.md").read_text("utf-8")
    section = guide.split("## `llm_layers`")[1]
    rows = re.findall(r"^\| `([^`]+)`[^|]*\| `([^`]+)` \|$", section, re.MULTILINE)
    assert qc.Policy(rows) == qc.Policy.named("llm_layers")


def test_rules_without_their_key_are_reported_the_form(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"*": "mse"}')
    (tmp_path / "p.toml").write_text('"*" = "mse"')
    for name in ("p.json", "p.toml"):
        with pytest.raises(
            qc.CalibrationError, match='"rules" only; write for instance'
        ):
            qc.Policy.load(tmp_path / name)
