"""Finds the DejaVu Sans fonts for drawing lines of text.

System folders come first, then a pinned package that carries version 2.37 of the same
fonts. Both draw the same pixels, as a comparison over 9 faces, sizes 18 to 43 and all of
ASCII showed.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from quantcal.demo.members import fetch_all

if TYPE_CHECKING:
    from collections.abc import Mapping

FACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DejaVuSans.ttf": (
            "7da195a74c55bef988d0d48f9508bd5d849425c1770dba5d7bfc6ce9ed848954"
        ),
        "DejaVuSans-Bold.ttf": (
            "e6476c1b80502924294eed40894c5b18e06c181444ca953e5334262df9c27724"
        ),
        "DejaVuSans-Oblique.ttf": (
            "4af75fa16ee6d3ad43e1ecec41862c24954af26a55c6bb1ebb27bd486a50f5f4"
        ),
        "DejaVuSansCondensed.ttf": (
            "8550cd5ca1acb65a8fc7877c46939cd0b4d909f8e7bc1e24716873d918c5e549"
        ),
        "DejaVuSansCondensed-Bold.ttf": (
            "38098d0b8edd8430a0f53fb2831b5d36037563a998a620d3c87a4d7591766d20"
        ),
        "DejaVuSansCondensed-Oblique.ttf": (
            "dc3526fa25fae4278c4e34b47d4c049b6923421c70921032a0db11bfe9c1b0cf"
        ),
    }
)
"""File names of the faces, with the SHA-256 of each in the package."""

_PACKAGE: Final = ("rinoh-typeface-dejavusans", "0.1.0", "rinoh_typeface_dejavusans")


def find() -> list[Path]:
    """Return the paths of all :data:`FACES`, in their order.

    A folder is used only if it has all of them, so that lines do not depend on the
    installed faces.

    Raises
    ------
    DemoError
        If no folder has the fonts and the package cannot be fetched.
    """
    for folder in _system_folders():
        paths = [folder / name for name in FACES]
        if all(path.is_file() for path in paths):
            return paths
    package, version, inside = _PACKAGE
    members = {f"{inside}/{name}": sha256 for name, sha256 in FACES.items()}
    return fetch_all(package, version, members)


def _system_folders() -> list[Path]:
    folders = [
        Path("/usr/share/fonts/truetype/dejavu"),
        Path("/usr/share/fonts/dejavu-sans-fonts"),
        Path("/usr/share/fonts/TTF"),
        Path("/usr/local/share/fonts/dejavu"),
        Path.home() / ".local/share/fonts",
        Path("/Library/Fonts"),
        Path.home() / "Library/Fonts",
    ]
    if windows := os.environ.get("WINDIR"):
        folders.append(Path(windows) / "Fonts")
    return folders
