"""Names of a package that are imported when they are first used.

Starting a command or a program then loads what it needs, and neither numpy nor more.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any


def lazy_names(
    package: str,
    modules: Mapping[str, Collection[str]],
    submodules: Collection[str] = (),
) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package (PEP 562) that imports names when used.

    Parameters
    ----------
    package
        Its ``__name__``.
    modules
        Names by the module inside the package that defines them.
    submodules
        Modules of the package that are attributes of it too.
    """
    homes = {name: home for home, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        # numpy first, with signals deferred: an interruption breaks compiled modules.
        importlib.import_module("quantcal._process.compiled")
        found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
