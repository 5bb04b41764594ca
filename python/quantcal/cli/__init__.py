"""The `quantcal` command. Its parts need typer and rich; importing this does not.

For programs, the functions behind the commands are better: :mod:`quantcal.onnx` and
:class:`quantcal.Calibrator`.
"""

from __future__ import annotations

import io
import signal
import sys

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
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # else somebody cares for it
        signal.signal(signal.SIGTERM, signal.default_int_handler)
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
