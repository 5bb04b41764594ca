"""Packages that only some functions need: imported at once, or missed with advice.

A package that is missing and one that is there but broken are told apart, since installing
it again does not help against every fault.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from quantcal._process.signals import deferred


def require(names: Sequence[str], user: str, extra: str, listed: str) -> None:
    """Import packages, or say how to install them; a signal waits until they are loaded.

    Parameters
    ----------
    names
        Modules, in the order in which they are imported.
    user
        What needs them, which begins the message: "quantcal.onnx needs".
    extra
        The extra that installs them.
    listed
        How the message calls them: "onnx and onnxruntime".

    Raises
    ------
    ImportError
        When one is missing, or cannot be loaded; the message says which.
    """
    for name in names:
        try:
            with deferred():
                importlib.import_module(name)
        except Exception as error:  # a broken package raises anything
            raise ImportError(told(error, name, user, extra, listed)) from error


def told(error: Exception, name: str, user: str, extra: str, listed: str) -> str:
    """Return what to say of a package that cannot be imported; see `require`."""
    install = f'pip install "quantcal[{extra}]"'
    if is_missing(error, name):
        them = "it" if listed == name else "them"
        return f"{user} {listed}. Install {them} with: {install}"
    reason = f"{error}" if isinstance(error, ImportError) else f"{error!r}"
    package = name.partition(".")[0]
    return (
        f"{user} {listed}, but the {package} that is installed cannot be imported: {reason}. "
        "Mend that package, or install it anew."
    )


def is_missing(error: Exception, name: str) -> bool:
    """Return whether an import failed because the package itself is not installed."""
    package = name.partition(".")[0]
    missed = error.name if isinstance(error, ModuleNotFoundError) else None
    barred = (
        sys.modules.get(package, ...) is None
    )  # so a program says that it is missing
    return missed == package or (missed is not None and barred)
