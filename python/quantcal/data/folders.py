"""The files of a folder and of the folders in it, in the order of names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from quantcal._core import CalibrationError
from quantcal._text import plural

IMAGES = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
WAVES = frozenset((".wav", ".wave"))
TEXTS = frozenset((".txt", ".text"))
ARRAYS = frozenset((".npz", ".npy"))

_NOUNS = {IMAGES: "image", WAVES: "WAV file", TEXTS: "text file", ARRAYS: "array file"}
_MOST_ENDINGS = 4


def find_files(path: Path, kinds: frozenset[str], wanted: str) -> list[Path]:
    """Return a file, or the files of a kind in a folder and in the folders below it.

    Hidden files and folders are skipped. The order is that of the names of folders and
    files, so it is the same on every machine.

    Parameters
    ----------
    path
        A folder, or one file of whatever ending.
    kinds
        Endings in small letters.
    wanted
        The name of such a file in errors, with its article.

    Raises
    ------
    CalibrationError
        If there is none; says what was found instead.
    """
    if not path.exists():
        raise CalibrationError(
            f"{path} does not exist. Give {wanted} or a folder of them."
        )
    if not path.is_dir():
        return [path]
    files = list_files(path)
    found = [file for file in files if file.suffix.lower() in kinds]
    if not files:
        raise CalibrationError(f"{path} is empty. Give {wanted} or a folder of them.")
    if not found:
        raise CalibrationError(
            f"{path} holds {describe_files(files)}, but not {wanted}. The endings that are "
            f"read are {', '.join(sorted(kinds))}."
        )
    return found


def list_files(folder: Path) -> list[Path]:
    """Return all files below a folder, without hidden ones, in the order of names."""

    def refuse(error: OSError) -> None:
        raise CalibrationError(
            f"Cannot read {error.filename}: {error.strerror or error}."
        ) from error

    found: list[Path] = []
    seen = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = list(_new_folders(place, folders, seen))
        found += [Path(place, name) for name in files if name[0] != "."]
    return sorted(found, key=lambda file: file.relative_to(folder).parts)


def _new_folders(place: str, names: list[str], seen: set[str]) -> Iterator[str]:
    """Yield folders to enter; a link to a folder above would have no end."""
    for name in sorted(names):
        real = os.path.realpath(os.path.join(place, name))  # noqa: PTH118
        if name[0] != "." and real not in seen:
            seen.add(real)
            yield name


def describe_files(files: list[Path]) -> str:
    """Return what files there are, such as "3 images and 2 other files (.csv, .md)".

    Empty without any.
    """
    counts = {
        noun: sum(file.suffix.lower() in kinds for file in files)
        for kinds, noun in _NOUNS.items()
    }
    parts = [plural(count, noun) for noun, count in counts.items() if count]
    known = frozenset().union(*_NOUNS)
    others = [file.suffix.lower() for file in files if file.suffix.lower() not in known]
    if others:
        common = Counter(others).most_common(_MOST_ENDINGS)
        endings = ", ".join(ending or "no ending" for ending, _ in common)
        parts.append(f"{plural(len(others), 'other file')} ({endings})")
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def largest_kind(files: list[Path]) -> frozenset[str] | None:
    """Return the kind that most of the files have: images, WAV or texts; None if none."""
    counts = {
        kinds: sum(file.suffix.lower() in kinds for file in files)
        for kinds in (IMAGES, WAVES, TEXTS)
    }
    best = max(counts, key=lambda kinds: counts[kinds])
    return best if counts[best] else None
