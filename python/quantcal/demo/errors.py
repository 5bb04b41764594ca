"""The error of the demo for reasons outside the library."""

from __future__ import annotations


class DemoError(RuntimeError):
    """The demo cannot get or read something that it needs, such as its model.

    The message names what was tried, why it failed and what to do instead.
    """
