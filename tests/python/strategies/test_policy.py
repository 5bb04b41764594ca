"""`Policy`: which rule applies to which tensor, and errors in rules."""

from __future__ import annotations

import copy
import fnmatch
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc


def fails(message: str, kind: type[Exception] = qc.CalibrationError) -> Any:
    return pytest.raises(kind, match=message)


def calibrator(*names: str) -> qc.Calibrator:
    cal = qc.Calibrator()
    for number, name in enumerate(names):
        cal.observe(name, np.linspace(-1 - number, 1, 50, dtype=np.float32))
    return cal


def decided(policy: qc.Policy, *names: str) -> dict[str, str]:
    return {name: rule for name, (rule, _) in policy.assign(names)[0].items()}


# Which rule decides.

LETTERS = "ab01.[]*?/"
PATTERNS = st.one_of(
    st.text(LETTERS, min_size=1, max_size=5),
    st.sampled_from(["re:a", "re:^a", "re:b$", "re:[01]", "re:a.*b", r"re:\.", "re:"]),
)


def applies(pattern: str, name: str, names: list[str]) -> bool:
    """Whether a pattern matches, in one line for each kind."""
    if pattern.startswith("re:"):
        return name == pattern or bool(re.search(pattern[3:], name))
    if "[" in pattern and not set("*?") & set(pattern) and pattern in names:
        return name == pattern
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


@given(
    st.lists(PATTERNS, unique=True, max_size=6),
    st.lists(st.text(LETTERS, max_size=5), unique=True, max_size=8),
)
def test_the_first_rule_that_matches_decides_and_idle_ones_are_reported(
    patterns: list[str], names: list[str]
) -> None:
    patterns = [
        p for p in patterns if p in names or p.startswith("re:") or set("*?[") & set(p)
    ]
    patterns = list(dict.fromkeys([*patterns, "*"]))
    strategies = {p: qc.KL(n + 1) for n, p in enumerate(patterns)}
    rules, unused = qc.Policy(strategies).assign(names)
    want = {n: next(p for p in patterns if applies(p, n, names)) for n in names}
    assert {name: rule for name, (rule, _) in rules.items()} == want
    assert all(strategies[rule] == strategy for rule, strategy in rules.values())
    assert unused == tuple(p for p in patterns if p not in want.values() and p != "*")


def test_each_kind_of_pattern_matches_as_documented() -> None:
    policy = qc.Policy(
        {
            "decoder.0.mlp": "minmax",
            "a[0]": "minmax",
            "block.?.x": "minmax",
            "[xy]z": "minmax",
            "re:attn$": "minmax",
            "re:^head[.]": "minmax",
            "layer:ffn_up": "minmax",
            "*": "mse",
        }
    )
    for name, rule in {
        "decoder.0.mlp": "decoder.0.mlp",
        "a[0]": "a[0]",
        "block.7.x": "block.?.x",
        "block.17.x": "*",
        "yz": "[xy]z",
        "model/self.attn": "re:attn$",
        "attn.q": "*",
        "head.0": "re:^head[.]",
        "a.head.0": "*",
        "model.layers.2.MLP.up_proj": "layer:ffn_up",
        "Decoder.0.mlp": "*",
        "model.ATTN": "*",
    }.items():
        assert policy.match(name)[0] == rule, name


def test_a_name_with_brackets_means_itself_alone_when_it_was_observed() -> None:
    policy = qc.Policy({"a[0]": "kl", "*": "mse"})
    assert decided(policy, "a[0]", "a0") == {"a[0]": "a[0]", "a0": "*"}
    assert decided(policy, "a0") == {"a0": "a[0]"}  # then it is a glob
    starred = qc.Policy({"a*": "kl", "*": "mse"})
    assert decided(starred, "a*", "*", "ab") == {"a*": "a*", "*": "*", "ab": "a*"}


def test_stars_match_dots_slashes_and_line_ends() -> None:
    policy = qc.Policy({"/model/*/out": "kl", "*": "mse"})
    assert policy.match("/model/layers.0/mlp\n/out")[0] == "/model/*/out"


def test_the_table_tells_which_rule_decided() -> None:
    rules = {"re:q_proj": "kl", "layer:lm_head": "minmax", "*": "percentile_99"}
    names = ("h.0.q_proj", "lm_head", "h.0.norm")
    table = calibrator(*names).compute(rules)
    assert [table.report[name].rule for name in names] == list(rules)
    assert [table[name].strategy for name in names] == list(rules.values())


# What is written of a strategy.


@pytest.mark.parametrize(
    ("value", "strategy"),
    [
        ("kl_divergence", qc.KL()),
        ("percentile_99.9", qc.Percentile(99.9)),
        ({"strategy": "kl", "num_bins": 4096}, qc.KL(4096)),
        ({"strategy": "percentile", "percentile": 99}, qc.Percentile(99)),
        ({"strategy": "mse"}, qc.MSE()),
        (qc.MinMax(), qc.MinMax()),
    ],
)
def test_a_strategy_is_a_name_an_object_or_a_name_with_options(
    value: Any, strategy: qc.Strategy
) -> None:
    assert qc.Policy({"*": value}).rules == (("*", strategy),)


def test_policies_are_values() -> None:
    policy = qc.Policy({"*a*": "kl", "*": qc.MSE()})
    same = qc.Policy([("*a*", qc.KL()), ("*", "mse")])
    assert policy == same
    assert hash(policy) == hash(same)
    assert policy != qc.Policy({"*": "mse", "*a*": "kl"})  # order counts
    assert policy != policy.to_dict()
    assert repr(policy) == (
        "Policy({'*a*': KL(num_bins=2048, num_levels=None, two_sided=None), "
        "'*': MSE(p=2.0, newton=False)})"
    )
    named = qc.Policy.named("llm_layers")
    for again in (pickle.loads(pickle.dumps(named)), copy.deepcopy(named)):
        assert again == named
        assert again.assign(["lm_head"]) == named.assign(["lm_head"])
    assert qc.Policy.of(policy) is policy


def test_a_sum_has_the_rules_of_the_first_before_those_of_the_second() -> None:
    first = qc.Policy({"x*": "kl", "*b": "minmax"})
    total = first + qc.Policy({"*b": "mse", "*": "mse"})
    assert total == qc.Policy({"x*": "kl", "*b": "minmax", "*": "mse"})
    with pytest.raises(TypeError):
        first + {"*": "mse"}  # type: ignore[operator]


class Own:
    """A strategy that no file can hold."""

    def range(
        self, histogram: qc.Histogram, format: qc.QuantFormat
    ) -> tuple[float, float]:
        return (-1.0, 1.0)

    def __repr__(self) -> str:
        return "Own()"


def test_a_strategy_of_ones_own_decides_but_cannot_be_written(tmp_path: Path) -> None:
    policy = qc.Policy({"a": "kl", "*": Own()})
    assert calibrator("a", "b").compute(policy)["b"].scale == np.float32(1 / 127)
    with fails(r'Rule "\*": Own\(\) cannot be written as text; .*minmax'):
        policy.to_dict()
    with fails(r"Own\(\) cannot be written"):
        policy.save(tmp_path / "policy.toml")
    assert list(tmp_path.iterdir()) == []


# Unused rules.


def test_rules_that_decide_nothing_are_kept_in_the_table(tmp_path: Path) -> None:
    rules = {
        "conv*": "kl",
        "*typo*": "minmax",
        "conv1": "minmax",
        "re:^fc9": "mse",
        "*": "mse",
    }
    table = calibrator("conv1", "fc1").compute(rules)
    assert table.unused_rules == ("*typo*", "conv1", "re:^fc9")
    table.save(tmp_path / "table.json")
    loaded = qc.CalibrationTable.load(tmp_path / "table.json")
    assert loaded.unused_rules == table.unused_rules
    assert calibrator("fc1").compute("mse").unused_rules == ()
    assert qc.CalibrationTable({}).unused_rules == ()


def test_tables_without_unused_rules_in_their_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    calibrator("a").compute("mse").save(path)
    text = path.read_text("utf-8")
    assert ' "unused_rules": [],\n' in text
    path.write_text(text.replace(' "unused_rules": [],\n', ""), "utf-8")
    assert qc.CalibrationTable.load(path).unused_rules == ()
    path.write_text(text.replace("[]", "[3]"), "utf-8")
    with fails(r"table\.json: unused_rules is \[3\], but it must be a list of pat"):
        qc.CalibrationTable.load(path)


def test_a_default_that_nothing_needs_is_not_called_unused() -> None:
    assert calibrator("a").compute({"a": "kl", "*": "mse"}).unused_rules == ()


def test_rules_of_a_named_policy_are_unused_only_when_all_are() -> None:
    policy = qc.Policy.named("llm_layers")
    kinds = tuple(rule for rule, _ in policy.rules if rule != "*")
    assert policy.assign(["model.layers.0.mlp.down_proj", "x"])[1] == ()
    assert policy.assign(["conv1", "conv2"])[1] == kinds
    total = qc.Policy({"*typo*": "kl"}) + policy
    assert total.assign(["lm_head"])[1] == ("*typo*",)
    own = qc.Policy(policy.to_dict())  # now they are the user's rules
    others = tuple(kind for kind in kinds if kind != "layer:lm_head")
    assert own.assign(["lm_head"])[1] == others


# Mistakes.


def test_tensors_that_no_rule_matches_are_listed() -> None:
    names = [f"t{n}" for n in range(13)]
    with fails(
        'No rule matches 13 tensors: "t0", .*"t9" and 3 more '
        r'\(rules: "a\*"\); add a rule "\*"\.'
    ) as error:
        calibrator("a1", *names).compute({"a*": "mse"})
    assert '"t10"' not in str(error.value)
    with fails(r'No rule matches tensor "t" \(rules: "a\*"\)'):
        qc.Policy({"a*": "mse"}).match("t")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"*": "mse", "re:q[_proj": "kl"},
            r"Rule \"re:q\[_proj\": 'q\[_proj' is not a valid regular expression: "
            "unterminated character set, at position 1",
        ),
        ({"re:a{1,99999999999}": "kl"}, "Rule .* is not a usable regular expression"),
        ({"layer:ffn_upp": "kl"}, 'layer "ffn_upp" .*mean "ffn_up".*embedding, att'),
        ({"": "kl"}, 'Rule "": the pattern is empty; "\\*" matches every tensor'),
        ({"*": "kll"}, r'Rule "\*": Strategy "kll" is not known. Did you mean "kl"'),
        ({"*": {"num_bins": 3}}, 'Rule "\\*": .* has no "strategy"; give a name'),
        (
            {"*": {"strategy": "kl", "bins": 3}},
            'Rule "\\*": Strategy "kl" has no option "bins"; it takes num_bins',
        ),
        ({"*": "percentile_0"}, 'Rule "\\*": percentile is 0.0, but it must be above'),
        (
            {"*": "llm_layers"},
            '"llm_layers" is a policy, not a strategy.*Policy.named',
        ),
        ({}, "The policy has no rules"),
        ([("a", "kl"), ("*", "mse"), ("a", "mse")], 'Two rules have the pattern "a"'),
    ],
)
def test_a_wrong_rule_is_named(rules: Any, message: str) -> None:
    with fails(message):
        qc.Policy(rules)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({3: "kl"}, 'Rule "3": a pattern must be a str, not int'),
        ({"*": 3}, r'Rule "\*": 3 is not a strategy'),
        ({"*": {"strategy": 3}}, "3 is not a strategy"),
        ({"*": {"strategy": "kl", "num_bins": "many"}}, "'many', but .* whole number"),
        ({"*": {"strategy": "kl", "num_bins": True}}, "True, but .* whole number"),
        ({"*": {"strategy": "percentile", "percentile": "9"}}, "'9', but .* a number"),
        ({"*": qc.Policy({"*": "mse"})}, "is not a strategy"),
    ],
)
def test_a_wrong_type_is_named(rules: Any, message: str) -> None:
    with fails(message, TypeError):
        qc.Policy(rules)


def test_options_go_with_the_name_of_a_strategy_only(tmp_path: Path) -> None:
    cal = calibrator("a")
    for policy in ("llm_layers", qc.Policy({"*": "kl"}), tmp_path / "p.toml"):
        with fails(
            r"options \(num_bins\) go with one name, not with a policy", TypeError
        ):
            cal.compute(policy, num_bins=3)


def test_unknown_names_list_the_policies_too() -> None:
    with fails(
        '"llm_layer" is not known. Did you mean "llm_layers".*policies: llm_lay'
    ):
        calibrator("a").compute("llm_layer")
    with fails('Policy "llm" is not known. Known: llm_layers'):
        qc.Policy.named("llm")


def test_changed_strategies_keep_rules_optional() -> None:
    def auto_to_mse(_: str, strategy: Any) -> Any:
        return qc.MSE() if isinstance(strategy, qc.Auto) else strategy

    policy = qc.Policy({"head": "auto"}) + qc.Policy.named("llm_layers")
    changed = policy.changed(auto_to_mse)
    assert changed.match("head") == ("head", qc.MSE())
    assert changed.rules[1:] == policy.rules[1:]
    names = ["head", "model.layers.0.self_attn.q_proj"]
    assert policy.assign(names)[1] == changed.assign(names)[1] == ()
    fewer = changed.changed(lambda text, s: None if text == "head" else s)
    assert fewer == qc.Policy.named("llm_layers")
    assert fewer.assign(names[1:])[1] == ()
    with pytest.raises(qc.CalibrationError, match="has no rules"):
        changed.changed(lambda *_: None)
