"""Ctrl-C while the `quantcal` command is being imported ends it without a traceback.

The package imports this module first, and it imports almost nothing. Until the package is
loaded the signal waits, since an interruption inside of Python's import system is lost.
"""

from __future__ import annotations

import signal
import sys


def _is_command() -> bool:
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":  # its name until Python has found the module
        given = sys.orig_argv
        if "-mquantcal" in given:
            return True
        return "-m" in given and given[given.index("-m") + 1 :][:1] == ["quantcal"]
    name = arguments[0].replace("\\", "/").rpartition("/")[2]
    return name in {"quantcal", "quantcal.exe"}


def _print_error(
    kind: type[BaseException], error: BaseException, traceback: object
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)  # type: ignore[arg-type]
    elif sys.stderr is not None:
        sys.stderr.write("interrupted\n")


_came: list[int] = []


def _note(number: int, frame: object) -> None:
    if _came:  # a second one does not wait
        raise KeyboardInterrupt
    _came.append(number)


def loaded() -> None:
    """Handle signals as usual again, after the package is loaded."""
    if signal.getsignal(signal.SIGINT) is _note:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if _came:
            raise KeyboardInterrupt


if _is_command() and sys.excepthook is sys.__excepthook__:
    sys.excepthook = _print_error
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:  # noqa: SIM105 - its alternative would import contextlib
            signal.signal(signal.SIGINT, _note)
        except ValueError:  # not the main thread
            pass
