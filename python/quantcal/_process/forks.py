"""Locks that no fork copies while another thread holds them.

A child has the forking thread only, so a lock of another thread would stay locked in the
child. Before a fork all locks are acquired, those of Python first, then those of the engine.
The parent and the child release them.
"""

from __future__ import annotations

import os
import threading
import weakref

from quantcal import _core

_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_taken: list[threading.Lock] = []  # while a thread forks
_forking = threading.Lock()  # one thread forks at a time


def new_lock() -> threading.Lock:
    """Return a lock that nobody holds when the process forks.

    A thread that holds one must not wait for another: a fork acquires all, in any order.
    """
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def _before() -> None:
    _forking.acquire()
    for lock in list(_locks):
        lock.acquire()
        _taken.append(lock)
    _core.close_gate()


def _after(*, in_child: bool) -> None:
    _core.open_gate(in_child)
    while _taken:
        _taken.pop().release()
    _forking.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(in_child=False),
        after_in_child=lambda: _after(in_child=True),
    )
