"""Ctrl-C while the `quantcal` command is being imported ends it without a traceback.

The package imports this first, and it imports next to nothing: what comes earlier is
Python's own. Until the package is loaded the signal waits, since an interruption inside of
Python's own importing is lost.
"""

from __future__ import annotations

import signal
import sys


def _is_command() -> bool:
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":  # so it is called until Python has found the module
        given = sys.orig_argv
        if "-mquantcal" in given:
            return True
        return "-m" in given and given[given.index("-m") + 1 :][:1] == ["quantcal"]
    name = arguments[0].replace("\\", "/").rpartition("/")[2]
    return name in {"quantcal", "quantcal.exe"}


def _tell(kind: type[BaseException], error: BaseException, traceback: object) -> None:
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
    """Let signals come again: the package is there."""
    if signal.getsignal(signal.SIGINT) is _note:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if _came:
            raise KeyboardInterrupt


if _is_command() and sys.excepthook is sys.__excepthook__:
    sys.excepthook = _tell
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:  # noqa: SIM105 - contextlib would be loaded for it
            signal.signal(signal.SIGINT, _note)
        except ValueError:  # not the main thread
            pass
