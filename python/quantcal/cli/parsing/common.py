"""The options that every command takes: `--json`, which a command prints, and `--quiet`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any

import typer

from quantcal._process.signals import deferred

_state = {"quiet": False}

_QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print errors only: no results, progress or warnings. With --json, the JSON too.",
    ),
]


def is_quiet() -> bool:
    """Return whether the command that runs prints errors only."""
    return _state["quiet"]


def take_common(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option `--quiet`, and load compiled modules before it runs."""
    signature = inspect.signature(command, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    quiet = inspect.Parameter("quiet", kind, default=False, annotation=_QuietOption)
    parameters = [*signature.parameters.values(), quiet]

    @wraps(command)
    def wrapper(*, quiet: bool, **arguments: Any) -> None:
        # With signals deferred, as an interruption breaks compiled modules. rich is missed
        # here and not after a long run.
        with deferred():
            import quantcal._process.compiled  # noqa: F401
        with _quieted(quiet):
            command(**arguments)

    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapper


@contextmanager
def _quieted(quiet: bool) -> Iterator[None]:
    if not quiet:
        yield
        return
    import warnings

    _state["quiet"] = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        _state["quiet"] = False
