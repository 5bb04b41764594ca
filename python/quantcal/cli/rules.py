"""Values with `PATTERN=VALUE` rules, as several options take them."""

from __future__ import annotations

from pathlib import Path

import typer

from quantcal.strategies.policy import Policy
from quantcal.strategies.presets import NAMED


def parse_rules(
    given: list[str] | None, option: str, kind: str
) -> tuple[str | None, dict[str, str]]:
    """Return the plain value of an option, and its rules.

    Parameters
    ----------
    given
        Values and rules, in the order of the command line. A tensor's name may contain
        "=", and so may the brackets of a value: the last one before these divides. What ends
        in .toml or .json is a file.
    option
        Named in errors.
    kind
        What the values are, such as "format".

    Raises
    ------
    typer.BadParameter
        If two plain values are given, or a rule has an empty side or occurs twice.
    """
    plain: list[str] = []
    rules: dict[str, str] = {}
    for text in given or []:
        pattern, equals, value = _divide(text)
        if not equals or _is_file(text):
            plain.append(text)
        elif not pattern or not value:
            raise wrong(f"{text!r} is not of the form PATTERN={kind.upper()}.", option)
        elif pattern in rules:
            raise wrong(f"There are two rules for the pattern {pattern!r}.", option)
        else:
            rules[pattern] = value
    if len(plain) > 1:
        raise wrong(
            f"There are {len(plain)} plain {kind}s ({', '.join(plain)}). Give one; others "
            f"need a pattern, such as '*attn*={plain[-1]}'.",
            option,
        )
    return plain[0] if plain else None, rules


def _divide(text: str) -> tuple[str, str, str]:
    """Divide a rule at the last "=" that is not in the brackets of its value."""
    place, depth = len(text), 0
    if text.endswith(")"):
        for place in range(len(text) - 1, -1, -1):
            depth += (text[place] == ")") - (text[place] == "(")
            if depth == 0:
                break
        place = place if depth == 0 else len(text)
    pattern, equals, value = text[:place].rpartition("=")
    return pattern, equals, value + text[place:]


def parse_strategy(given: list[str] | None) -> str | dict[str, str] | Policy:
    """Return what `--strategy` says as `Calibrator.compute` takes it.

    Returns
    -------
    A name, a mapping of patterns to names, or a policy. A plain name among rules becomes
    the last rule, "*"; the rules of a policy follow the others.

    Raises
    ------
    typer.BadParameter
        As `parse_rules`, or if a rule never decides.
    CalibrationError
        If a policy file cannot be read.
    """
    plain, rules = parse_rules(given or ["mse"], "--strategy", "name")
    if plain is None:
        return rules
    if "*" in rules:
        message = f"The rule '*' leaves nothing for the plain name {plain!r}."
        raise wrong(message, "--strategy")
    policy = _policy(plain)
    if policy is not None:
        return Policy(rules) + policy if rules else policy
    return {**rules, "*": plain} if rules else plain


def _is_file(text: str) -> bool:
    return Path(text).suffix.lower() in {".toml", ".json"}


def _policy(text: str) -> Policy | None:
    """Return the policy that a plain name or a file is; None for a strategy's name."""
    if _is_file(text):
        return Policy.load(text)
    return Policy.named(text) if text in NAMED else None


def wrong(message: str, option: str) -> typer.BadParameter:
    """Return the error of a value that an option does not take."""
    return typer.BadParameter(message, param_hint=f"'{option}'")
