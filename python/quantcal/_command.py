"""Ctrl-C while the `quantcal` command is being imported ends it without a traceback.

The package imports this first, and it imports nothing: what comes earlier is Python's own.
"""

from __future__ import annotations

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


if _is_command() and sys.excepthook is sys.__excepthook__:
    sys.excepthook = _tell
