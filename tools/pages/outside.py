"""Pages of the site that stand outside docs/, and the links between all pages."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

# Path in the project → path in the site.
OUTSIDE = {
    "ARCHITECTURE.md": "design/architecture.md",
    "CONTRIBUTING.md": "design/contributing.md",
    "CHANGELOG.md": "design/changelog.md",
    "benches/README.md": "measurements/benches.md",
    "examples/calibrate_array.py": "examples/calibrate_array.md",
    "examples/quantize_onnx.py": "examples/quantize_onnx.md",
    "examples/merge_shards.py": "examples/merge_shards.md",
    "examples/compare_strategies.py": "examples/compare_strategies.md",
    "examples/custom_strategy.py": "examples/custom_strategy.md",
    "examples/policy.py": "examples/policy.md",
    "examples/notebooks/onnx.ipynb": "examples/notebook_onnx.md",
    "examples/notebooks/pytorch.ipynb": "examples/notebook_pytorch.md",
}
# Folders that a page names as a whole.
_FOLDERS = {"docs/design": "design/README.md", "docs/measurements": "index.md"}
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"^(```|~~~)")


def read_page(path: Path) -> str:
    """Return a file as Markdown: a script as its code, a notebook as its cells."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return f"# {path.name}\n\n```python\n{text}```\n"
    if path.suffix == ".ipynb":
        return "\n\n".join(map(_cell, json.loads(text)["cells"])) + "\n"
    return text


def rewrite_links(markdown: str, origin: str, page: str) -> str:
    """Turn links between files of the project into links between pages.

    ``origin`` is the path of the page's file in the project, ``page`` that in the site.
    """
    lines, code = [], False
    for line in markdown.split("\n"):
        code ^= bool(_FENCE.match(line.strip()))
        lines.append(line if code else _LINK.sub(_rewriter(origin, page), line))
    return "\n".join(lines)


def _rewriter(origin: str, page: str) -> Any:
    def rewrite(found: re.Match[str]) -> str:
        target = found[2]
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        place = OUTSIDE.get(path) or _FOLDERS.get(path) or _inside(path)
        if place is None:
            return found[0]
        relative = posixpath.relpath(place, posixpath.dirname(page) or ".")
        return f"{found[1]}{relative}{found[3] or ''}{found[4]}"

    return rewrite


def _inside(path: str) -> str | None:
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return source
    parts = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {})
        text = output.get("text") or data.get("text/plain")
        if "image/png" in data:
            image = "".join(data["image/png"]).replace("\n", "")
            parts.append(
                f'<img alt="Output of the cell" src="data:image/png;base64,{image}">'
            )
        elif text:
            parts.append(f"```text\n{''.join(text).rstrip()}\n```")
    return "\n\n".join(parts)
