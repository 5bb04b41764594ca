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

__all__ = ["main"]

_EXTRA = frozenset({"click", "rich", "shellingham", "typer"})
INTERRUPTED = 130
"""Exit code after Ctrl-C, and SIGTERM: 128 + SIGINT, as shells have it."""


def main() -> None:
    """Run the command with the arguments of this process, and exit.

    Exit codes: 0 done, 1 an error that is told in one line, 2 wrong usage, 130 Ctrl-C
    or SIGTERM, which end a command alike.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end the command.
            stream.reconfigure(errors="backslashreplace")
    _heed_sigterm()
    try:
        from quantcal.cli.app import app

        app(prog_name="quantcal")
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(
            "The quantcal command needs typer and rich. "
            'Install them with: pip install "quantcal[cli]"',
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # while importing; later ones are caught by the app
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _heed_sigterm() -> None:
    """End at SIGTERM as at Ctrl-C, unless somebody cares for it; but not in forked workers."""
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
