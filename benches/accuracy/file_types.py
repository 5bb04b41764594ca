"""Files of this disk, labeled by extension, for magika's classifier."""

from __future__ import annotations

import json
import sysconfig
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.models import MODELS

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
"""Unambiguous extensions, and magika's label for each."""

_HALF = 1024
_PADDING = 256
_MIN_BYTES = 64  # the content of a smaller file says too little


class Sample(NamedTuple):
    """What the classifier reads of a file, and the number of its label."""

    codes: np.ndarray[Any, Any]
    label: int


def roots() -> list[Path]:
    """Return the searched folders: Python's own and the system's."""
    own = [sysconfig.get_path(name) for name in ("stdlib", "purelib")]
    return [Path(p) for p in (*own, "/usr/share", "/usr/include", "/usr/lib")]


def samples(most: int, seed: int) -> list[Sample]:
    """Return at most `most` files of each type, in a seeded random order."""
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
            if taken < most and len(content) >= _MIN_BYTES:
                chosen.append(Sample(_codes(content), labels[kind]))
                taken += 1
            if taken == most:
                break
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _labels() -> list[str]:
    path = MODELS["magika-labels"].fetch()
    return list(json.loads(path.read_text())["target_labels_space"])


def _codes(content: bytes) -> np.ndarray[Any, Any]:
    """Return the first and last 1024 bytes, stripped of white space and padded."""
    head, tail = content[:4096].lstrip()[:_HALF], content[-4096:].rstrip()[-_HALF:]
    codes = np.full(2 * _HALF, _PADDING, np.int32)
    codes[: len(head)] = np.frombuffer(head, np.uint8)
    codes[2 * _HALF - len(tail) :] = np.frombuffer(tail, np.uint8)
    return codes
