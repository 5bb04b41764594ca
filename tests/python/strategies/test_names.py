"""Names of strategies: what is shown is understood again, in any case, on the command line too."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc
from quantcal.cli.rules import parse_rules
from quantcal.strategies import names, resolve
from samples import METHODS, f32

PERCENT = st.floats(1, 100)
ENDS = st.floats(-1e38, 1e38, allow_subnormal=False)
BINS = st.integers(1, 4096)


def plain() -> st.SearchStrategy[qc.Strategy]:
    """Every class with every option."""
    return st.one_of(
        st.builds(qc.MinMax, st.sampled_from(["extreme", "mean", "median"])),
        st.builds(
            qc.Percentile, PERCENT, st.sampled_from(["split", "each"]), st.booleans()
        ),
        st.builds(
            qc.KL,
            BINS,
            st.none() | st.integers(2, 4096),
            st.none() | st.booleans(),
        ),
        st.builds(qc.MSE, st.floats(1, 4)),
        st.just(qc.MSE(newton=True)),
        st.just(qc.MaxEntropy()),
        st.builds(
            qc.ACIQ,
            st.sampled_from(["auto", "gauss", "laplace", "half_gauss", "half_laplace"]),
            st.sampled_from([None, "closed_form"]),
        ),
        st.builds(lambda a, b: qc.Fixed(min(a, b), max(a, b)), ENDS, ENDS),
        st.builds(
            qc.Auto,
            st.integers(1, 1000),
            st.sampled_from([None, "python:my.module:score"]),
            st.floats(0, 1, allow_subnormal=False),
            st.none() | st.floats(0, 1e6, allow_subnormal=False),
        ),
    )


ANY = st.recursive(
    plain(), lambda inner: st.builds(qc.Hybrid, inner, inner), max_leaves=4
)


@given(ANY)
def test_every_shown_name_is_accepted(strategy: qc.Strategy) -> None:
    assert resolve(str(strategy)) == strategy


@given(ANY)
def test_every_shown_name_is_accepted_in_upper_case_and_with_spaces(
    strategy: qc.Strategy,
) -> None:
    shown = str(strategy)
    if "python:" in shown or any(w in shown for w in ("gauss", "laplace", "closed")):
        return  # words of options keep their case
    shown = shown.replace(", ", " ,  ").replace("(", " ( ")
    head, bracket, rest = shown.partition("(")
    assert resolve(head.upper() + bracket + rest) == strategy


@pytest.mark.parametrize("strategy", METHODS.values(), ids=METHODS)
def test_a_range_names_the_strategy_that_makes_it_again(strategy: qc.Strategy) -> None:
    x = f32([-3, -1, 0, 0.5, 1, 2, 7])
    made = qc.calibrate(x, strategy, format="uint8")
    assert qc.calibrate(x, made.strategy, format="uint8") == made


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("KL", qc.KL()),
        ("MinMax", qc.MinMax()),
        ("min-max", qc.MinMax()),
        ("MaxEntropy", qc.MaxEntropy()),
        ("KL-divergence", qc.KL()),
        ("PERCENTILE_99.9", qc.Percentile(99.9)),
        ("percentile(99.9)", qc.Percentile(99.9)),
        ("MSE( p = 3 )", qc.MSE(3)),
        ("mse(2.4)", qc.MSE(2.4)),
        ("aciq(closed_form)", qc.ACIQ(approximation="closed_form")),
        ("hybrid(first=mse(p=3), then=kl)", qc.Hybrid(qc.MSE(3), qc.KL())),
        ("minmax()", qc.MinMax()),
    ],
)
def test_other_spellings_are_understood(written: str, meant: qc.Strategy) -> None:
    assert resolve(written) == meant


@pytest.mark.parametrize("name", [n for n in names() if "<" not in n and n != "fixed"])
def test_case_does_not_matter(name: str) -> None:
    assert resolve(name.upper()) == resolve(name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("mse(q=3)", 'has no option "q"; it takes p, newton'),
        ("mse(p=9)", "p is 9, but it must be between 1 and 4"),
        ("mse(p=3", 'not known. Did you mean "mse"'),
        ("mse)p=3(", "not known"),
        ("mse(1, True, 3)", "too many options, or one twice; it takes p, newton"),
        ("mse(3, p=3)", "too many options, or one twice"),
        ("percentile_99.9(percentile=99)", "too many options, or one twice"),
        ("softmax(3)", "too many options, or one twice; it takes none"),
        ("aciq(gauss, laplace)", "too many options, or one twice"),
        ("minmax(most)", "reduce is 'most'"),
        ("kl(num_bins=many)", "num_bins is 'many', but it must be a whole number"),
        ("hybrid(" * 40 + ")" * 40, "not known"),
        ("mse(p=" + "9" * 5000 + ")", "p is inf"),
    ],
)
def test_wrong_options_are_named(wrong: str, message: str) -> None:
    with pytest.raises((qc.CalibrationError, TypeError)) as caught:
        resolve(wrong)
    assert message in str(caught.value)


def test_options_beside_a_name_with_options_win() -> None:
    assert resolve("mse(p=3)", p=2.4) == qc.MSE(2.4)


def test_a_class_is_refused_with_the_object_that_is_meant() -> None:
    with pytest.raises(TypeError, match=r"KL is a class; give an object, KL\(\)"):
        qc.calibrate(f32([1]), qc.KL)  # type: ignore[arg-type]


def test_the_number_without_effect_makes_no_difference() -> None:
    assert qc.Percentile(99, adaptive=True) == qc.Percentile(adaptive=True)


def test_a_metric_of_ones_own_is_named_by_its_module() -> None:
    shown = str(qc.Auto(metric=math.sqrt))
    assert shown == "auto(metric=python:math:sqrt)"
    assert resolve(shown) == qc.Auto(metric="python:math:sqrt")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["mse(p=3)"], ("mse(p=3)", {})),
        (["*head*=mse(p=3)", "kl"], ("kl", {"*head*": "mse(p=3)"})),
        (["a=b=hybrid(mse(p=3), kl)"], (None, {"a=b": "hybrid(mse(p=3), kl)"})),
        (["x(y)=kl"], (None, {"x(y)": "kl"})),
    ],
)
def test_the_command_line_divides_rules_outside_brackets(
    given: list[str], expected: Any
) -> None:
    assert parse_rules(given, "--strategy", "name") == expected
