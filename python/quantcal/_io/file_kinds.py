"""The kind of a wrong file, by its first bytes.

Errors name the kind and what to do, for instance for a web page instead of a model.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_HEAD = 4096  # bytes that are read

_EXPORT = "Export the model to ONNX with the framework that wrote it."
_UNPACK = "Unpack it first."
_AGAIN = "Fetch the file again."
_DATA = "It holds data, not a model."


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a file.

    Attributes
    ----------
    what
        A noun with its article, such as ``"a ZIP archive"``.
    remedy
        A sentence: how to get an ONNX model, or the file itself.
    wrapped
        Whether it stands for the wanted file: a pointer, an archive or a web page. The remedy
        then holds for every content.
    """

    what: str
    remedy: str
    wrapped: bool = False


_LFS = Kind(
    "a Git LFS pointer, not the file itself",
    "Fetch the content: git lfs pull.",
    True,
)
_ANNEX = Kind(
    "a git-annex pointer, not the file itself",
    "Fetch the content: git annex get.",
    True,
)
_EMPTY = Kind("empty", _AGAIN, True)
_ZEROS = Kind("nothing but zeros, as after an interrupted download", _AGAIN, True)
_HTML = Kind(
    "an HTML page, not the file itself",
    "Open it in a browser for the reason, and use the link of the download.",
    True,
)
_JSON = Kind("JSON text", "It may hold the reason why a download failed.")
_XML = Kind("XML text", "It may hold the reason why a download failed.")
_OPENVINO = Kind("a model of OpenVINO (.xml)", _EXPORT)
_TEXT = Kind("text", _AGAIN)
# Not read here: onnx's parser of the first aborts on deep nesting.
_ONNX_TEXT = {
    form: Kind(
        f"ONNX written as text ({form})",
        f'Convert it: onnx.save(onnx.load(path, format="{form}"), "model.onnx").',
    )
    for form in ("onnxtxt", "json", "textproto")
}

# What files contain at a position.
_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"version https://git-lfs.github.com/", _LFS),
    (0, b"version https://hawser.github.com/", _LFS),
    (0, b"/annex/objects/", _ANNEX),
    (0, b"\x1f\x8b", Kind("compressed by gzip", "Unpack it first: gzip -d.", True)),
    (0, b"BZh", Kind("compressed by bzip2", "Unpack it first: bzip2 -d.", True)),
    (0, b"\xfd7zXZ\0", Kind("compressed by xz", "Unpack it first: xz -d.", True)),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        Kind("compressed by zstd", "Unpack it first: zstd -d.", True),
    ),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK, True)),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive", _UNPACK, True)),
    (257, b"ustar", Kind("a tar archive", "Unpack it first: tar -xf.", True)),
    (
        4,
        b"ORTM",
        Kind(
            "a model in onnxruntime's own format (.ort), which cannot be changed",
            "Give the .onnx model that it was made from.",
        ),
    ),
    (4, b"TFL3", Kind("a model of TensorFlow Lite", _EXPORT)),
    (0, b"GGUF", Kind("a GGUF file", _EXPORT)),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, as Keras writes", _EXPORT)),
    (0, b"\x93NUMPY", Kind("a numpy array (.npy)", _DATA)),
    (0, b"QCAL", Kind("a file of histograms (.qcal)", _DATA)),
    (0, b"%PDF-", Kind("a PDF document", _DATA)),
    (0, b"\x7fELF", Kind("a program or library", _DATA)),
)

_SAFETENSORS = Kind("a safetensors file: weights without a graph", _EXPORT)
_TORCH = Kind(
    "a PyTorch file (.pt, .pth)", "Load it in PyTorch and export it: torch.onnx.export."
)
_PICKLE = Kind(
    "a Python pickle, as old PyTorch files are",
    "Load it where it comes from and export it: torch.onnx.export.",
)
_KERAS = Kind("a Keras model (.keras)", _EXPORT)
_NPZ = Kind("a file of numpy arrays (.npz)", _DATA)
_ZIP = Kind("a ZIP archive", _UNPACK, True)
_CUT_ZIP = Kind(
    "a ZIP archive (.zip, .npz, .pt) that is damaged or cut short", _AGAIN, True
)


def kind_of(source: Path | bytes) -> Kind | None:
    """Return the kind of a file or of its content; None if the first bytes do not show it.

    Never raises: a file that cannot be read has no known kind.
    """
    try:
        if isinstance(source, bytes):
            head, size = source[:_HEAD], len(source)
        else:
            size = source.stat().st_size
            with source.open("rb") as file:
                head = file.read(_HEAD)
    except OSError:
        return None
    if not size:
        return _EMPTY
    for position, magic, kind in _MAGIC:
        if head[position:].startswith(magic):
            return kind
    tests: tuple[Callable[[], Kind | None], ...] = (
        lambda: _archive(source) if head.startswith(b"PK\x03\x04") else None,
        lambda: _PICKLE if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5" else None,
        lambda: _SAFETENSORS if _is_safetensors(head, size) else None,
        lambda: None if any(head) else _ZEROS,
        lambda: _text(head),
    )
    return next(filter(None, (test() for test in tests)), None)


def wrapped(data: bytes) -> Kind | None:
    """Return the kind of data in place of the wanted file: a pointer, an archive, a page."""
    kind = kind_of(data)
    return kind if data and kind is not None and kind.wrapped else None


def _archive(source: Path | bytes) -> Kind:
    """Return the kind of an archive, by the names in it."""
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        with zipfile.ZipFile(opened) as archive:
            names = archive.namelist()
    except Exception:  # a damaged archive raises anything
        return _CUT_ZIP
    if any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in names):
        return _TORCH
    if "config.json" in names and "metadata.json" in names:
        return _KERAS
    if names and all(name.endswith(".npy") for name in names):
        return _NPZ
    return _ZIP


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= size - 8


def _text(head: bytes) -> Kind | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = start[:256].lower()
    if lower.startswith((b"<!doctype html", b"<html")):
        return _HTML
    if lower.startswith((b"<?xml", b"<net ")):
        if b"<html" in head.lower():
            return _HTML
        return _OPENVINO if b"<net " in head else _XML
    if b"ir_version" in start or b"irVersion" in start:
        form = {b"<": "onnxtxt", b"{": "json"}.get(start[:1], "textproto")
        return _ONNX_TEXT[form]
    if start[:1] in (b"{", b"["):
        return _JSON
    # Every ONNX model begins with control bytes: tags and lengths of fields.
    plain = all(byte >= 32 or byte in b"\t\n\r" for byte in head)
    return _TEXT if plain else None
