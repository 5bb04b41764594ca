"""Policies: which strategy applies to which tensor."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from quantcal._core import CalibrationError
from quantcal._text import plural, shown
from quantcal.strategies.base import Strategy
from quantcal.strategies.patterns import NODE, Pattern
from quantcal.strategies.presets import NAMED
from quantcal.strategies.registry import resolve, strategy_of
from quantcal.strategies.serialize import serialize_strategy

Rule: TypeAlias = tuple[str, Strategy]
StrategyLike: TypeAlias = (
    "str | os.PathLike[str] | Strategy | Mapping[str, Any] | Policy"
)
"""What is accepted as a strategy; `Policy.of` reads it."""

_MAX_NAMED = 10  # names in one message


class Policy:
    """Ordered rules, pattern to strategy; the first that matches a tensor's name applies.

    Immutable. See docs/guide/policies.md for a guide.

    Parameters
    ----------
    rules
        A mapping, or pairs, of patterns and strategies. A strategy is a name
        ("percentile_99.9"), an object (`MSE(p=2.4)`) or a mapping
        {"strategy": "mse", "p": 2.4}. A pattern is one of:

        * the name of a tensor;
        * a glob with `*`, `?` and `[…]`, which must match the whole name (`*` matches dots and
          slashes too);
        * `re:` and a regular expression, which may match any part of the name (`re.search`;
          anchor it with `^` and `$`);
        * `layer:` and a kind of transformer layer: `embedding`, `attention_qkv`,
          `attention_out`, `ffn_up`, `ffn_down`, `lm_head`, `softmax`.

        Case counts, except in `layer:`.

    Raises
    ------
    CalibrationError
        If there are no rules, two have the same pattern, a regular expression is invalid, or
        a name, an option or a kind of layer is not known. The message names the rule.
    TypeError
        If a pattern is not a str, a strategy is none of the above, or an option is of a
        wrong type.

    Examples
    --------
    >>> import quantcal as qc
    >>> policy = qc.Policy({"re:layers[.][01][.]": "minmax", "*mlp*": qc.MSE(2.4), "*": "mse"})
    >>> policy.match("layers.1.mlp.fc1")
    ('re:layers[.][01][.]', MinMax(reduce='extreme'))
    >>> policy.match("layers.7.mlp.fc1")
    ('*mlp*', MSE(p=2.4, newton=False))
    """

    __slots__ = ("_optional", "_patterns", "_rules")

    def __init__(self, rules: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        pairs = rules.items() if isinstance(rules, Mapping) else rules
        if isinstance(pairs, str) or not isinstance(pairs, Iterable):
            msg = (
                f"rules are {shown(rules, 80)}, but they must be a mapping of patterns to "
                "strategies, or pairs of these"
            )
            raise TypeError(msg)
        patterns: list[Pattern] = []
        resolved: list[Rule] = []
        for text, strategy in pairs:
            try:
                patterns.append(Pattern(text))
                resolved.append((text, strategy_of(strategy)))
            except CalibrationError as error:
                msg = f'Rule "{text}": {error}'
                raise CalibrationError(msg) from error
            except TypeError as error:
                msg = f'Rule "{text}": {error}'
                raise TypeError(msg) from error
        if not resolved:
            msg = 'The policy has no rules; give at least {"*": "mse"}.'
            raise CalibrationError(msg)
        texts = [text for text, _ in resolved]
        for number, text in enumerate(texts):
            if text in texts[:number]:
                msg = f'Two rules have the pattern "{text}"; the second could never match.'
                raise CalibrationError(msg)
        self._patterns = tuple(patterns)
        self._rules = tuple(resolved)
        self._optional: frozenset[str] = frozenset()

    @classmethod
    def of(cls, strategy: Any, **options: Any) -> Policy:
        """Return the policy for the argument of `Calibrator.compute`.

        Parameters
        ----------
        strategy
            The name of a strategy or of a policy, a strategy object, a mapping of patterns
            to strategies, the path of a policy file as a `Path`, or a policy.
        options
            Options of the named strategy.

        Raises
        ------
        CalibrationError
            If a name or an option is not known, the mapping is empty, or the file cannot be
            read or is not a policy.
        TypeError
            If it is none of these, or options are given to what takes none.
        """
        if isinstance(strategy, str) and strategy not in NAMED:
            if Path(strategy).suffix.lower() in {".toml", ".json"}:
                msg = (
                    f'Strategy "{strategy}" is not known. If it is a policy file, give '
                    f'pathlib.Path("{strategy}").'
                )
                raise CalibrationError(msg)
            return cls({"*": resolve(strategy, **options)})
        if not isinstance(strategy, (str, Mapping, Policy, os.PathLike)):
            return cls({"*": resolve(strategy, **options)})
        if options:
            given = ", ".join(options)
            what = "mapping" if isinstance(strategy, Mapping) else "policy"
            msg = f"options ({given}) go with one name, not with a {what}"
            raise TypeError(msg)
        if isinstance(strategy, Policy):
            return strategy
        if isinstance(strategy, str):
            return cls.named(strategy)
        return cls(strategy) if isinstance(strategy, Mapping) else cls.load(strategy)

    @classmethod
    def named(cls, name: str) -> Policy:
        """Return a policy that comes with quantcal.

        Parameters
        ----------
        name
            "llm_layers": a measured strategy for each kind of transformer layer, "mse" for
            every other tensor. docs/guide/policies.md lists its rules and where they fail;
            compare it with "mse" alone.

        Raises
        ------
        CalibrationError
            If there is no policy of this name.

        Examples
        --------
        >>> import quantcal as qc
        >>> qc.Policy.named("llm_layers").match("model.layers.0.self_attn.q_proj")
        ('layer:attention_qkv', MinMax(reduce='extreme'))
        """
        if name not in NAMED:
            wrong = name if isinstance(name, str) else shown(name)
            msg = f'Policy "{wrong}" is not known. Known: {", ".join(NAMED)}.'
            raise CalibrationError(msg)
        policy = cls(NAMED[name])
        policy._optional = frozenset(NAMED[name])
        return policy

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Read a policy from a file.

        Parameters
        ----------
        path
            A .toml or .json file with an ordered list `rules`. Each rule has a `pattern`, the
            name of a `strategy` and the strategy's options.

        Raises
        ------
        CalibrationError
            If the file cannot be read or anything in it is wrong; the message names the
            file and the line or the rule.
        """
        from quantcal.strategies.policy_file import read

        return cls(read(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the rules to a .toml or .json file, atomically; `load` gives an equal policy.

        Raises
        ------
        CalibrationError
            If a strategy is a custom one, which text cannot hold, the file is of another
            kind, or it cannot be written.
        """
        from quantcal.strategies.policy_file import write

        write(path, self.to_dict())

    def to_dict(self) -> dict[str, str | dict[str, Any]]:
        """Return the rules as plain data, which `Policy` takes again.

        Raises
        ------
        CalibrationError
            If a strategy is a custom one, which text cannot hold; names the rule.

        Examples
        --------
        >>> import quantcal as qc
        >>> qc.Policy({"*mlp*": qc.MSE(p=2.4), "*": qc.MSE()}).to_dict()
        {'*mlp*': {'strategy': 'mse', 'p': 2.4}, '*': 'mse'}
        """
        written = {}
        for text, strategy in self._rules:
            try:
                written[text] = serialize_strategy(strategy)
            except CalibrationError as error:
                msg = f'Rule "{text}": {error}'
                raise CalibrationError(msg) from error
        return written

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Patterns and strategies, in order."""
        return self._rules

    def __add__(self, other: Policy) -> Policy:
        """Return a policy with the rules of both, these first.

        Of two rules with the same pattern only the first stays.
        """
        if not isinstance(other, Policy):
            return NotImplemented
        own = dict(self._rules)
        more = {text: rule for text, rule in other._rules if text not in own}
        total = Policy({**own, **more})
        total._optional = self._optional | other._optional.intersection(more)
        return total

    def changed(self, change: Callable[[str, Strategy], Strategy | None]) -> Policy:
        """Return the policy with other strategies for its patterns, or with fewer rules.

        Rules of a named policy stay optional: one that matches no tensor is not reported.

        Parameters
        ----------
        change
            Gets the pattern and the strategy of each rule. It returns the strategy to take,
            or None to leave the rule out.

        Raises
        ------
        CalibrationError
            If no rule is left.
        """
        pairs = [(text, change(text, strategy)) for text, strategy in self._rules]
        made = Policy([(text, each) for text, each in pairs if each is not None])
        made._optional = self._optional.intersection(text for text, _ in made.rules)
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Policy):
            return NotImplemented
        return self._rules == other._rules

    def __hash__(self) -> int:
        return hash(self._rules)

    def __repr__(self) -> str:
        return f"Policy({dict(self._rules)!r})"

    def _repr_html_(self) -> str:
        from quantcal.report import html

        return html.policy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._rules, self._optional)

    def match(self, name: str) -> Rule:
        """Return the rule that applies to a tensor: its pattern and its strategy.

        Raises
        ------
        CalibrationError
            If no rule matches.
        """
        for pattern, rule in zip(self._patterns, self._rules, strict=True):
            if pattern.matches(name):
                return rule
        raise CalibrationError(self._unmatched([name]))

    def assign(self, names: Iterable[str]) -> tuple[dict[str, Rule], tuple[str, ...]]:
        """Return the rule of each tensor, and the patterns of unused rules.

        A pattern with brackets is a plain name if that tensor was observed. So "a[0]" does not
        match "a0" then. O(tensors * rules).

        Parameters
        ----------
        names
            Names of all tensors that were observed.

        Returns
        -------
        The rule, pattern and strategy, for each name; and the patterns of unused rules, which
        match no tensor, or only tensors that earlier rules match. "*" is not reported. Rules of
        a named policy are not reported while one of them is used, as no model has all kinds of
        layers.

        Raises
        ------
        CalibrationError
            If a rule is for a plain name that was never observed, or for nodes, or if tensors
            match no rule; the message names them.
        """
        observed = dict.fromkeys(names)
        for pattern in self._patterns:
            if pattern.text.startswith(NODE) and not any(
                map(pattern.matches, observed)
            ):
                raise CalibrationError(_without_model(pattern.text))
            if pattern.plain and pattern.text not in observed:
                raise CalibrationError(unknown_name(pattern.text, observed))
        rules: dict[str, Rule] = {}
        for name in observed:
            for pattern, rule in zip(self._patterns, self._rules, strict=True):
                alone = pattern.bracketed and pattern.text in observed
                if name == pattern.text if alone else pattern.matches(name):
                    rules[name] = rule
                    break
        unmatched = [name for name in observed if name not in rules]
        if unmatched:
            raise CalibrationError(self._unmatched(unmatched))
        return rules, self._unused({text for text, _ in rules.values()})

    def _unused(self, used: set[str]) -> tuple[str, ...]:
        layers = self._optional - {"*"}
        silent = {"*"} | (layers if layers & used else set())
        return tuple(
            text for text, _ in self._rules if text not in used and text not in silent
        )

    def _unmatched(self, names: list[str]) -> str:
        head = "tensor" if len(names) == 1 else f"{len(names)} tensors:"
        patterns = _quoted([text for text, _ in self._rules])
        return f'No rule matches {head} {_quoted(names)} (rules: {patterns}); add a rule "*".'


def _without_model(text: str) -> str:
    return (
        f'The rule "{text}" is for nodes, which only a model has. Give it to '
        "quantcal.onnx.quantize (quantcal quantize), or name tensors here."
    )


def unknown_name(name: object, observed: Iterable[str]) -> str:
    """Return the sentence that a tensor was never observed, with similar names."""
    known = list(observed)
    name = name if isinstance(name, str) else shown(name)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    were = plural(len(known), "tensor") + (" was" if len(known) == 1 else " were")
    return f'Tensor "{name}" was never observed ({were}).{hint}'


def _quoted(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED
    listed = ", ".join(f'"{name}"' for name in names[:_MAX_NAMED])
    return listed + (f" and {more} more" if more > 0 else "")


def _restore(rules: tuple[Rule, ...], optional: frozenset[str]) -> Policy:
    policy = Policy(rules)
    policy._optional = optional
    return policy
