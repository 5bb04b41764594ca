"""Packages that only some functions need: imported, or refused with advice.

Errors distinguish a missing package from a broken one, since installing it again does not help
against every fault.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from quantcal._process.signals import deferred


def require(names: Sequence[str], user: str, extra: str, listed: str) -> None:
    """Import packages, or raise an error with the command that installs them.

    Signals wait until they are loaded.

    Parameters
    ----------
    names
        Modules, in the order in which they are imported.
    user
        The beginning of the message: "quantcal.onnx needs".
    extra
        The extra that installs them.
    listed
        Their names in the message: "onnx and onnxruntime".

    Raises
    ------
    ImportError
        If one is missing or cannot be loaded; the message names it.
    """
    for name in names:
        try:
            with deferred():
                importlib.import_module(name)
        except Exception as error:  # a broken package raises anything
            raise ImportError(
                import_message(error, name, user, extra, listed)
            ) from error


def import_message(
    error: Exception, name: str, user: str, extra: str, listed: str
) -> str:
    """Return the message for a package that cannot be imported; see `require`."""
    install = f'pip install "quantcal[{extra}]"'
    if is_missing(error, name):
        them = "it" if listed == name else "them"
        return f"{user} {listed}. Install {them} with: {install}"
    reason = f"{error}" if isinstance(error, ImportError) else f"{error!r}"
    package = name.partition(".")[0]
    return (
        f"{user} {listed}, but the {package} that is installed cannot be imported: {reason}. "
        "Repair that package, or install it again."
    )


def is_missing(error: Exception, name: str) -> bool:
    """Return whether an import failed because the package itself is not installed."""
    package = name.partition(".")[0]
    missed = error.name if isinstance(error, ModuleNotFoundError) else None
    # None in sys.modules blocks an import.
    blocked = sys.modules.get(package, ...) is None
    return missed == package or (missed is not None and blocked)
