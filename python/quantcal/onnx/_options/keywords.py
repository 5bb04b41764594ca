"""Functions that take options as keywords: their signatures, docstrings and values."""

from __future__ import annotations

import difflib
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.onnx._options.quantize_options import QuantizeOptions

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PLACE = "    <options>\n"
_COLUMNS = 88


def takes_options(keywords: type) -> Callable[[_Function], _Function]:
    """Show the options of a function in its signature and docstring.

    They replace ``**changes`` in the signature, and the line ``<options>`` in the docstring.

    Parameters
    ----------
    keywords
        The class of the keywords that it takes.
    """

    def change(function: _Function) -> _Function:
        taken = [
            each for each in fields(QuantizeOptions) if each.name in names(keywords)
        ]
        signature = inspect.signature(function)
        kept = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        kept += [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=each.type,
            )
            for each in taken
        ]
        function.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        if function.__doc__:  # missing with -OO
            known = QuantizeOptions.describe()
            texts = [_entry(each.name, known[each.name].doc) for each in taken]
            function.__doc__ = function.__doc__.replace(_PLACE, "".join(texts))
        return function

    return change


def _entry(name: str, doc: str) -> str:
    indent = " " * 8
    text = textwrap.fill(
        doc,
        _COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"    {name}\n{text}\n"


def names(keywords: type) -> frozenset[str]:
    """Return the names of a class of keywords."""
    return frozenset(
        name
        for base in keywords.__mro__
        for name in getattr(base, "__annotations__", {})
    )


def with_changes(
    function: str,
    keywords: type,
    options: QuantizeOptions | None,
    changes: Mapping[str, Any],
) -> QuantizeOptions:
    """Return the options of a call: those given as one object, changed by its keywords.

    Raises
    ------
    TypeError
        For a keyword that the function does not have, as Python's own.
    CalibrationError
        For a value that is not known.
    """
    known = names(keywords)
    for name in changes:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2)
            meant = f". Did you mean {' or '.join(close)}?" if close else ""
            raise TypeError(
                f"{function}() got an unexpected keyword argument {name!r}{meant}"
            )
    if options is None:
        return QuantizeOptions(**changes)
    if not isinstance(options, QuantizeOptions):
        raise CalibrationError(
            f"options is {shown(options)}. Give a QuantizeOptions, or each option by name."
        )
    return replace(options, **changes)
