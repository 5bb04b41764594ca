"""The reference lists every public name: pages order them, and what is new goes last."""

from __future__ import annotations

import ast
import re
from pathlib import Path

# Page → the module whose public names it has.
PAGES = {
    "reference/api/quantcal.md": "quantcal",
    "reference/api/onnx.md": "quantcal.onnx",
    "reference/api/torch.md": "quantcal.torch",
}
_ENTRY = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def complete_page(markdown: str, page: str, root: Path) -> str:
    """Add the public names that no page of the reference has yet."""
    module = PAGES.get(page)
    if module is None:
        return markdown
    folder = root / "docs" / "reference" / "api"
    known = {
        name
        for path in folder.glob("*.md")
        for name in _ENTRY.findall(path.read_text("utf-8"))
    }
    names = [f"{module}.{name}" for name in public_names(module, root)]
    added = [f"::: {name}" for name in names if name not in known]
    return "\n\n".join([markdown.rstrip(), *added]) + "\n"


def public_names(module: str, root: Path) -> list[str]:
    """Return the names in a module's ``__all__``, without importing it."""
    path = root.joinpath("python", *module.split("."), "__init__.py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign):
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            if names == ["__all__"]:
                return list(ast.literal_eval(node.value))
    return []
