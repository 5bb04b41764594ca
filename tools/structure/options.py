"""How often an option is written down."""

from __future__ import annotations

import ast
import re

from structure.imports import FACADE, Package
from structure.sources import Tree


def quantize_arguments(package: Package) -> int | None:
    """Return the number of arguments of `quantcal.onnx.quantize`, or None."""
    facade = f"{FACADE}.onnx"
    homes = [
        arrow.target
        for arrow in package.imports
        if arrow.source == facade and arrow.name == "quantize"
    ]
    for home in [*homes, facade, f"{facade}.quantize"]:
        if home in package.modules:
            for node in package.modules[home].tree.body:
                if isinstance(node, ast.FunctionDef) and node.name == "quantize":
                    arguments = node.args
                    parts = (
                        arguments.posonlyargs,
                        arguments.args,
                        arguments.kwonlyargs,
                    )
                    return sum(map(len, parts))
    return None


def option_places(tree: Tree, option: str) -> list[tuple[str, int]]:
    """Return the files of the package that name an option, and how often they do."""
    word = re.compile(rf"\b{re.escape(option)}\b")
    counts = [(file.path, len(word.findall(file.source))) for file in tree.package]
    return sorted((c for c in counts if c[1]), key=lambda c: (-c[1], c[0]))
