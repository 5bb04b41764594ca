"""Programs of the project outside the package, as modules."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from paths import ROOT


def load(path: str) -> ModuleType:
    """Return the module that a file of the project is, without leaving it in `sys.modules`."""
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
