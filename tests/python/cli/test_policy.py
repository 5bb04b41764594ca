"""`--strategy` with rules, policy files and named policies; warnings of unused rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quantcal as qc
from cli_runs import call, run, save_model, save_samples, save_stats
from quantcal.cli.rules import parse_strategy

TOML = """
[[rules]]
pattern = "*layers*"
strategy = "kl"
num_bins = 512

[[rules]]
pattern = "*"
strategy = "minmax"
"""
RULES = {"*layers*": {"strategy": "kl", "num_bins": 512}, "*": "minmax"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(TOML, "utf-8")
    return path


def test_files_and_named_policies_are_parsed_and_come_last(file: Path) -> None:
    assert parse_strategy([str(file)]) == qc.Policy(RULES)
    both = parse_strategy([str(file), "re:^a=b$=kl"])
    assert both == qc.Policy({"re:^a=b$": "kl", **RULES})
    named = parse_strategy(["llm_layers", "lm_head=mse"])
    assert named == qc.Policy({"lm_head": "mse"}) + qc.Policy.named("llm_layers")
    assert parse_strategy(["llm_layers"]) == qc.Policy.named("llm_layers")


@pytest.mark.parametrize("name", ["policy.toml", "a=b.json", "POLICY.TOML"])
def test_a_file_may_have_any_name_that_ends_so(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    qc.Policy(RULES).save(path)
    assert parse_strategy([str(path)]) == qc.Policy(RULES)


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_compute_takes_a_policy_file(file: Path, tmp_path: Path) -> None:
    stats, table = save_stats(tmp_path), tmp_path / "table.json"
    done = call("compute", stats, "-o", table, "-s", file)
    assert done.code == 0
    assert "rule" not in done.err
    loaded = qc.CalibrationTable.load(table)
    assert loaded == qc.load(stats).compute(RULES)
    assert {r.rule for r in loaded.report.values()} == set(RULES)


def test_compute_warns_of_unused_rules_by_name(tmp_path: Path) -> None:
    stats, table = save_stats(tmp_path), tmp_path / "table.json"
    arguments = [stats, "-o", table, "-s", "mse"]
    for rule in ("*layers*", "*lyers*", "broken", "*layers.0*", "re:[.]11[.]"):
        arguments += ["-s", f"{rule}=kl"]
    done = call("compute", *arguments)
    assert done.code == 0
    warnings = [line for line in done.err.splitlines() if "rule" in line]
    assert warnings == [
        "warning: 2 rules match no tensor: '*lyers*', 're:[.]11[.]'",
        "warning: 1 rule is unused, because earlier rules match all the same "
        "tensors: '*layers.0*'",
    ]
    unused = ("*lyers*", "*layers.0*", "re:[.]11[.]")
    assert qc.CalibrationTable.load(table).unused_rules == unused
    as_json = call("compute", *arguments, "--json")
    assert as_json.err.splitlines()[:2] == warnings
    assert json.loads(as_json.out)["kind"] == "ranges"


def test_a_named_policy_warns_only_when_it_finds_no_layer(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    done = call("compute", save_stats(tmp_path), "-o", table, "-s", "llm_layers")
    assert "rule" not in done.err  # it has down_proj
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = tmp_path / "made.onnx"
    done = call("quantize", model, "-o", made, "--samples", data, "-s", "llm_layers")
    assert done.code == 0
    assert "7 rules match no tensor: 'layer:embedding', 'layer:attention" in done.err


def test_quantize_takes_a_policy_file_and_warns(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made, expected = tmp_path / "made.onnx", tmp_path / "expected.onnx"
    policy = qc.Policy({"re:^x$": "minmax", "*typo*": "kl", "*": "percentile_99"})
    policy.save(tmp_path / "policy.json")
    result = qc.onnx.quantize(
        model, expected, data, strategy=tmp_path / "policy.json", progress=False
    )
    assert result.table["x"].strategy == "minmax"
    arguments = ["-o", made, "--samples", data, "-s", tmp_path / "policy.json"]
    done = call("quantize", model, *arguments)
    assert (done.code, done.err) == (
        0,
        "warning: 1 rule matches no tensor: '*typo*'\n",
    )
    assert made.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[rules]]\npattern = "*"', 'rule 1 ("*"): "strategy" is missing'),
        ('[[rules]]\npattern = "re:("\nstrategy = "kl"', "at position 0"),
        ("[[rules]\n", "is not valid TOML"),
        ("", "there are no rules"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_and_costs_no_time(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text, "utf-8")
    model, missing = save_model(tmp_path), tmp_path / "no samples"
    missing.mkdir()
    made = tmp_path / "made.onnx"
    for arguments in (
        ["compute", save_stats(tmp_path), "-o", tmp_path / "t.json"],
        ["quantize", model, "-o", made, "--samples", missing],  # not even looked at
    ):
        output = call(*arguments, "-s", path).error_text()
        assert output.startswith(str(path))
        assert message in output


def test_a_wrong_rule_is_told_in_one_line(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    for rule, message in (
        ("re:q[=kl", "Rule \"re:q[\": 'q[' is not a valid regular expression"),
        ("layer:head=kl", 'layer "head" is not known. Did you mean "lm_head"?'),
        ("*=llm_layers", '"llm_layers" is a policy, not a strategy'),
        ("x*=kl", "No rule matches 10 tensors"),
        ("none.toml", "none.toml cannot be read: No such file"),
    ):
        output = call(
            "compute", stats, "-o", tmp_path / "t.json", "-s", rule
        ).error_text()
        assert message in output


def test_help_lists_the_named_policies_and_files() -> None:
    shown = " ".join(run("compute", "--help", COLUMNS="200").out.split())
    for word in ("llm_layers", ".toml", "re:layers"):
        assert word in shown
