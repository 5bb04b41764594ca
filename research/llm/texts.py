"""The texts that the experiments read: quotations, and the manual of Python.

Nothing is bundled. The quotations are Debian's package `fortunes`, with a file for each topic.
They are read where they are installed, or fetched by apt into the cache. Without apt, the
docstrings of the standard library replace them. The manual is `pydoc_data.topics`, a part of
Python. Figures of two machines are comparable if the texts have the same `digest`.
"""

from __future__ import annotations

import ast
import hashlib
import random
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from quantcal.demo.members import cache_folder

INSTALLED = Path("/usr/share/games/fortunes")

# Topics in prose. None is used both for calibration and for evaluation.
CALIBRATION_TOPICS = ("science", "work", "education", "law", "computers")
EVALUATION_TOPICS = ("people", "wisdom", "miscellaneous", "politics", "men-women")
LABELED_TOPICS = (
    "computers",
    "education",
    "food",
    "kids",
    "law",
    "love",
    "politics",
    "science",
    "sports",
    "work",
)
"""Topics for classification."""


@dataclass(frozen=True)
class Text:
    """A text, its source, and a digest of its content."""

    name: str
    source: str
    content: str

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the content's SHA-256."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:12]


def evaluation_texts() -> list[Text]:
    """Return the two texts to measure on: quotations (or docstrings) and the manual."""
    return [_prose(EVALUATION_TOPICS, part=0), _manual(part=0)]


def calibration_texts() -> list[Text]:
    """Return the two texts to calibrate on, which share nothing with the evaluation texts."""
    return [_prose(CALIBRATION_TOPICS, part=1), _manual(part=1)]


def labeled_quotations(number: int) -> list[tuple[str, str]]:
    """Return up to `number` quotations of each of ten topics: (quotation, topic).

    Raises
    ------
    FileNotFoundError
        If there are no quotations and no apt; the message says what to install.
    """
    folder = _fortunes()
    if folder is None:
        raise FileNotFoundError(
            "The sentence encoder is measured on Debian's fortunes, which are not "
            "installed, and apt-get cannot fetch them. Install the package: "
            "apt-get install fortunes"
        )
    return [
        (quotation, topic)
        for topic in LABELED_TOPICS
        for quotation in _quotations(folder / topic)[:number]
    ]


def _prose(topics: tuple[str, ...], *, part: int) -> Text:
    folder = _fortunes()
    if folder is None:
        return _docstrings(part)
    found = [q for topic in topics for q in _quotations(folder / topic)]
    random.Random(0).shuffle(found)
    source = f"Debian's fortunes: {', '.join(topics)}"
    return Text("quotations", source, "\n\n".join(found))


def _quotations(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return [part.strip() for part in text.split("\n%") if part.strip()]


def _manual(part: int) -> Text:
    """Return every second topic of the manual, from the first or from the second."""
    from pydoc_data.topics import topics

    chosen = [topics[name] for name in sorted(topics)][part::2]
    random.Random(0).shuffle(chosen)
    half = "first" if part == 0 else "second"
    return Text("manual", f"pydoc_data.topics, {half} of each two", "\n\n".join(chosen))


def _docstrings(part: int) -> Text:
    """Return the longer docstrings of every second module of the standard library."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[part::2]
    found = []
    for path in paths:
        tree = ast.parse(path.read_bytes())
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        nodes = (node for node in ast.walk(tree) if isinstance(node, kinds))
        found += [
            text for node in nodes if len(text := ast.get_docstring(node) or "") > 200
        ]
    random.Random(0).shuffle(found)
    source = "docstrings of the standard library (there are no fortunes and no apt)"
    return Text("docstrings", source, "\n\n".join(found))


def _fortunes() -> Path | None:
    """Return the folder of the quotations; None if they are unavailable."""
    if (INSTALLED / "science").is_file():
        return INSTALLED
    target = cache_folder() / "fortunes"
    if not target.is_dir() and not _fetch_fortunes(target):
        return None
    return target


def _fetch_fortunes(target: Path) -> bool:
    """Fetch the package with apt, which needs no root, and unpack it."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as name:
        fetch = ["apt-get", "download", "fortunes"]
        done = subprocess.run(fetch, cwd=name, capture_output=True, check=False)
        packages = list(Path(name).glob("fortunes*.deb"))
        if done.returncode or not packages:
            return False
        subprocess.run(["dpkg-deb", "-x", packages[0], name], check=True)
        (Path(name) / INSTALLED.relative_to("/")).rename(target)
    return True
