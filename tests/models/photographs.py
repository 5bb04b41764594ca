"""Real photographs inside two packages: the only place with their hashes."""

from __future__ import annotations

from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from quantcal.demo.members import Member, fetch_all

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def _skimage(file: str, sha256: str, license: str) -> Member:
    return Member("scikit-image", "0.26.0", f"skimage/data/{file}", license, sha256)


def _sklearn(file: str, sha256: str) -> Member:
    inside = f"sklearn/datasets/images/{file}"
    return Member("scikit-learn", "1.9.1", inside, "CC-BY-2.0", sha256)


PHOTOGRAPHS: Final[Mapping[str, Member]] = MappingProxyType(
    {
        "astronaut": _skimage(
            "astronaut.png",
            "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            "LicenseRef-public-domain",
        ),
        "brick": _skimage(
            "brick.png",
            "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
            "CC0-1.0",
        ),
        "camera": _skimage(
            "camera.png",
            "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
            "CC0-1.0",
        ),
        "chelsea": _skimage(
            "chelsea.png",
            "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
            "CC0-1.0",
        ),
        "china": _sklearn(
            "china.jpg",
            "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        ),
        "coffee": _skimage(
            "coffee.png",
            "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
            "CC0-1.0",
        ),
        "flower": _sklearn(
            "flower.jpg",
            "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        ),
        "grass": _skimage(
            "grass.png",
            "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
            "CC0-1.0",
        ),
        "gravel": _skimage(
            "gravel.png",
            "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
            "CC0-1.0",
        ),
        "rocket": _skimage(
            "rocket.jpg",
            "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
            "LicenseRef-public-domain",
        ),
    }
)
"""Photographs by name, with the licenses that the packages state."""


def photograph_files() -> dict[str, Path]:
    """Return the paths of all photographs, with one download for each package."""
    packages: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, photograph in PHOTOGRAPHS.items():
        packages[photograph.package, photograph.version].append(name)
    found: dict[str, Path] = {}
    for (package, version), names in packages.items():
        members = {PHOTOGRAPHS[n].member: PHOTOGRAPHS[n].sha256 for n in names}
        found |= zip(names, fetch_all(package, version, members), strict=True)
    return found
