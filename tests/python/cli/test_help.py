"""Help: readable at 80 columns, quick, and one name for one option in all commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cli_runs import call, environment, plain, run
from quantcal.cli.parsing.commands import find_command
from quantcal.cli.parsing.exit_codes import EXIT_CODES
from quantcal.cli.parsing.names import COMMANDS

ROOT = Path(__file__).parents[3]

WAYS = [[], *([name] for name in COMMANDS)]


def options() -> Iterator[tuple[str, Any]]:
    """Yield each command with each of its options."""
    for command in COMMANDS:
        for parameter in find_command(command).params:
            if parameter.param_type_name == "option":
                yield command, parameter


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way) or "quantcal")
def test_help_is_readable_at_80_columns(way: list[str]) -> None:
    shown = plain(run(*way, "--help", COLUMNS="80").out)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown  # typer's tables cut words
    assert not any(line.endswith("-") for line in lines)  # no word is divided
    assert "│" not in shown
    # Texts take the whole width: the first word of a line did not fit before it.
    for line, after in pairwise(lines):
        if after.startswith(" " * 25) and line[23:25] == "  " and line[25:]:
            assert len(line) + 1 + len(after.split()[0]) > 78, (line, after)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_option_and_choice_whole(command: str) -> None:
    words = set(re.split(r"[\s,/|.\[\]':()]+", plain(call(command, "--help").out)))
    for parameter in find_command(command).params:
        assert {*parameter.opts, *parameter.secondary_opts} & {*words, parameter.name}
        choices = getattr(getattr(parameter, "type_descriptor", None), "choices", None)
        for choice in choices or ():
            assert str(getattr(choice, "value", choice)) in words, parameter.name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_quiet_and_says_its_exit_codes(command: str) -> None:
    names = {name for _, p in options() if _ == command for name in p.opts}
    assert {"--json", "--quiet", "-q"} <= names
    shown = call(command, "--help").out
    assert "Exit codes: 0 done, 1 error, 2 wrong usage" in shown
    assert "docs/reference/exit-codes.md" in shown


def test_the_page_of_exit_codes_has_them_all() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)] == [
        *EXIT_CODES
    ]
    shown = call("--help").out
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in shown


def kind_of(parameter: Any) -> tuple[object, ...]:
    """Return what an option takes: flag or value, once or often, and its short name."""
    short = sorted(name for name in parameter.opts if not name.startswith("--"))
    flag = bool(getattr(parameter, "is_flag", False))
    takes = "" if flag else (parameter.metavar or "")
    if "|" in takes or parameter.opts[0] == "--sort":
        takes = "one of"  # the choices are those of the command
    secondary = tuple(parameter.secondary_opts)
    return flag, bool(parameter.multiple), takes, tuple(short), secondary


def test_one_name_has_one_meaning_in_all_commands() -> None:
    kinds: dict[str, set[tuple[object, ...]]] = defaultdict(set)
    fields: dict[str, set[str]] = defaultdict(set)
    for _, parameter in options():
        for name in (*parameter.opts, *parameter.secondary_opts):
            kinds[name].add(kind_of(parameter))
            fields[name].add(parameter.name)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}
    assert {name: found for name, found in fields.items() if len(found) > 1} == {}


def test_one_meaning_has_one_name_in_all_commands() -> None:
    """Parameters of the functions behind them are called alike."""
    names: dict[str, set[str]] = defaultdict(set)
    for _, parameter in options():
        long = [name for name in parameter.opts if name.startswith("--")]
        assert len(long) == 1, (
            parameter.opts
        )  # no second name, which would be a synonym
        names[parameter.name].add(long[0])
    assert {key: found for key, found in names.items() if len(found) > 1} == {}
    words = {name.removeprefix("--") for found in names.values() for name in found}
    for one, other in (
        ("time", "times"),
        ("format", "activation-type"),
        ("plot", "picture"),
    ):
        assert not {one, other} <= words


def test_a_default_in_words_stands_for_no_value() -> None:
    wrong = [
        (command, each.name, each.default)
        for command, each in options()
        if isinstance(getattr(each, "show_default", None), str)
        and each.default not in (None, [], ())
    ]
    assert wrong == []
    assert "[default: 10]" in " ".join(call("stability", "--help").out.split())


def test_examples_use_options_that_exist() -> None:
    for way in WAYS:
        shown = plain(call(*way, "--help").out).replace("\\\n", " ")
        examples = re.findall(r"\$ quantcal (\w+) ([^\n]*)", shown)
        assert examples, way
        for command, rest in examples:
            known = {
                name
                for _, p in options()
                if _ == command
                for name in (*p.opts, *p.secondary_opts)
            }
            used = {word for word in rest.split() if re.match(r"--?[a-z]", word)}
            assert used <= known, (command, used - known)


PROBE = """
import json, sys
sys.argv = ["quantcal", *{arguments!r}]
from quantcal.cli import main
try:
    main()
finally:
    print("MODULES" + json.dumps(sorted(m for m in sys.modules if "." not in m)))
"""

HEAVY = {"numpy", "ml_dtypes", "onnx", "onnxruntime", "torch", "matplotlib", "rich"}


def modules_after(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(arguments=arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=True,
    )
    return set(json.loads(done.stdout.partition("MODULES")[2]))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(way) or "quantcal")
def test_help_imports_nothing_heavy(way: list[str]) -> None:
    assert modules_after(*way, "--help") & {*HEAVY, "pydantic"} == set()


def test_the_version_imports_no_parser_either() -> None:
    for flag in ("--version", "-V"):
        assert modules_after(flag) & {*HEAVY, "typer", "click"} == set()


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["quantze"], "'quantize'"),
        (["obsreve"], "'observe'"),
        (["quantize", "m", "--stratgy", "mse"], "'--strategy'"),
        (["quantize", "m", "--no-latncy"], "'--no-latency'"),
        (["quantize", "m", "--target", "tensort"], "'tensorrt'"),
        (["inspect", "s", "--sort", "cuont"], "'count'"),
        (["export", "t", "--to", "tensort", "-o", "y"], "'tensorrt'"),
        (["compute", "s", "-o", "y", "-a", "int17"], "int16"),
    ],
    ids=" ".join,
)
def test_a_wrong_choice_gets_the_near_ones(arguments: list[str], near: str) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert "Did you mean" in done.err
    assert near in done.err.partition("Did you mean")[2]
    assert "Value error" not in done.err


def test_completion_knows_commands_options_and_choices() -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        done = run(
            _QUANTCAL_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
        )
        return done.out.split()

    assert complete("quantcal qu") == ["quantize"]
    assert "--strategy" in complete("quantcal quantize --str")
    assert complete("quantcal quantize --target tens") == ["tensorrt"]
    assert "--install-completion" in call("--help").out
