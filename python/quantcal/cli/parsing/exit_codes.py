"""The exit codes of the command, in one place for its help, its errors and its docs."""

from __future__ import annotations

from quantcal._process.signals import INTERRUPTED

DONE = 0
ERROR = 1
USAGE = 2
LIMIT_BROKEN = 3
"""A run that worked, but whose result breaks a limit of the caller.

Neither an error nor wrong usage, so that a script can tell them apart.
"""

PAGE = "docs/reference/exit-codes.md"

EXIT_CODES = {
    DONE: "done",
    ERROR: "error",
    USAGE: "wrong usage",
    LIMIT_BROKEN: "limit broken",
    INTERRUPTED: "interrupted",
}
"""What each code means."""


def describe_exit_codes() -> str:
    """Return the codes in one line, and where the page about them is."""
    codes = ", ".join(f"{code} {text}" for code, text in EXIT_CODES.items())
    return f"Exit codes: {codes}.\nMore: {PAGE}"
