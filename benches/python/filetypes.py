"""Files of this disk, labelled by their extension, for magika's classifier."""

from __future__ import annotations

import json
import sysconfig
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quantcal.demo.fetch import fetch

TYPES = {
    ".bmp": "bmp",
    ".c": "c",
    ".cfg": "ini",
    ".cpp": "cpp",
    ".css": "css",
    ".csv": "csv",
    ".gz": "gzip",
    ".h": "c",
    ".html": "html",
    ".ini": "ini",
    ".js": "javascript",
    ".json": "json",
    ".m4": "m4",
    ".md": "markdown",
    ".npy": "npy",
    ".npz": "npz",
    ".onnx": "onnx",
    ".pdf": "pdf",
    ".pl": "perl",
    ".pm": "perl",
    ".png": "png",
    ".py": "python",
    ".pyc": "pythonbytecode",
    ".rs": "rust",
    ".rst": "rst",
    ".sh": "shell",
    ".so": "elf",
    ".svg": "svg",
    ".toml": "toml",
    ".ttf": "ttf",
    ".wav": "wav",
    ".xml": "xml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".zip": "zip",
}
"""Extensions that leave no doubt, and the label that magika has for them."""

_HALF = 1024
_PADDING = 256
_LEAST = 64  # bytes: below, an extension says more than the content


class Sample(NamedTuple):
    """What the classifier reads of a file, and its label's number."""

    codes: np.ndarray[Any, Any]
    label: int


def roots() -> list[Path]:
    """Return where files are looked for: Python's own folders and the system's."""
    own = [sysconfig.get_path(name) for name in ("stdlib", "purelib")]
    return [Path(p) for p in (*own, "/usr/share", "/usr/include", "/usr/lib")]


def samples(most: int, seed: int) -> list[Sample]:
    """Return files of this disk, at most `most` a type, in a random but repeatable order."""
    labels = {name: i for i, name in enumerate(_labels())}
    found = defaultdict(list)
    for root in roots():
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            kind = TYPES.get(path.suffix.lower())
            if kind and path.is_file() and not path.is_symlink():
                found[kind].append(path)
    rng = np.random.default_rng(seed)
    chosen = []
    for kind, paths in sorted(found.items()):
        taken = 0
        for i in rng.permutation(len(paths)):
            content = paths[i].read_bytes()
            if taken < most and len(content) >= _LEAST:
                chosen.append(Sample(_codes(content), labels[kind]))
                taken += 1
            if taken == most:
                break
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _labels() -> list[str]:
    path = fetch(
        "magika",
        "1.0.3",
        "magika/models/standard_v3_3/config.min.json",
        sha256="ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
    )
    return list(json.loads(path.read_text())["target_labels_space"])


def _codes(content: bytes) -> np.ndarray[Any, Any]:
    """Return the first and last 1024 bytes without white space around them, padded."""
    head, tail = content[:4096].lstrip()[:_HALF], content[-4096:].rstrip()[-_HALF:]
    codes = np.full(2 * _HALF, _PADDING, np.int32)
    codes[: len(head)] = np.frombuffer(head, np.uint8)
    codes[2 * _HALF - len(tail) :] = np.frombuffer(tail, np.uint8)
    return codes
