"""The `quantcal` command. Its parts need typer and rich; importing this does not.

For programs, the functions behind the commands are better: :mod:`quantcal.onnx` and
:class:`quantcal.Calibrator`.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from contextlib import suppress

from quantcal._core import __version__
from quantcal._io.temporary import close_folders
from quantcal._process import signals
from quantcal._process.imports import is_missing
from quantcal._process.signals import INTERRUPTED

__all__ = ["INTERRUPTED", "main"]

_EXTRA = frozenset({"click", "rich", "shellingham", "typer"})
"""What the extra `cli` installs."""


def main() -> None:
    """Run the command with the arguments of this process, and exit.

    Exit codes: 0 done, 1 an error, reported in one line, 2 wrong usage, 3 a limit of the
    caller is broken, 130 Ctrl-C or SIGTERM. Both signals end a command in the same way.
    Once all is written and shown, a signal ends the process as it ends any other.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end the command.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            _handle_sigterm()
            _run()
        finally:
            _finish()
    except KeyboardInterrupt:  # while importing, or between the command and its end
        signals.ignore()
        print("interrupted", file=sys.stderr)
        _finish()
        raise SystemExit(INTERRUPTED) from None


def _run() -> None:
    if sys.argv[1:] in (["--version"], ["-V"]):  # at once, without typer
        print(f"quantcal {__version__}")
        return
    try:
        with signals.deferred():
            from quantcal.cli.app import app
        app(prog_name="quantcal")
    except ImportError as error:  # of others, the commands report themselves
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRA:
            raise
        message = "The quantcal command needs typer and rich"
        install = 'pip install "quantcal[cli]"'
        if is_missing(error, name):
            message = f"{message}. Install them with: {install}"
        else:
            message = (
                f"{message}, but the {name} that is installed cannot be imported: {error}. "
                f"Update it with: {install} --upgrade"
            )
        print(message, file=sys.stderr)
        raise SystemExit(1) from None


def _finish() -> None:
    """Show what is written, and clean up: nothing is left for a signal to interrupt."""
    signals.ignore()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # Python reports it at its end, if at all
            stream.flush()
    close_folders()
    signals.end_at_once()


def _handle_sigterm() -> None:
    """End at SIGTERM as at Ctrl-C, unless it has a handler; forked workers end as before."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def forget() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        whose = getattr(handler, "__module__", None) or ""
        if handler is signal.default_int_handler or whose.startswith("quantcal."):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
