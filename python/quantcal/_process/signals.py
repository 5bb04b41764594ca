"""Signals that are deferred while they would do harm.

Python runs a signal's handler between two steps of the main thread. A KeyboardInterrupt while
compiled modules are loaded breaks them: some abort the process, others report that they cannot
be imported.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

INTERRUPTED = 130
"""Exit code after Ctrl-C and SIGTERM: 128 + SIGINT, as in shells."""


@contextmanager
def deferred() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM to the end of a block.

    Only in the main thread, which runs all handlers, and only signals with a handler in
    Python. Others end the process at once or are ignored, as usual.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if callable(handler)]
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)

    try:
        with suppress(ValueError):  # a subinterpreter, which has no handlers
            for number in ours:
                signal.signal(number, note)
        yield
    finally:
        with suppress(ValueError):
            for number in ours:
                signal.signal(number, before[number])
        if came:
            signal.raise_signal(came[0])


def ignore() -> None:
    """Ignore signals, so that nothing interrupts the end of the process."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def end_at_once() -> None:
    """Restore the system's handling of signals, which ends the process at once."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
