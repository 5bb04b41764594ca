"""Check the project's words: length of sentences, plain phrases, American spelling.

Run as ``python tools/words.py``. Exits 1 when it finds something.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from language.findings import Finding, check_file
from reading.files import CODE_FOLDERS, PACKAGE, find_files, relative

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
SETTINGS = ("Makefile", "pyproject.toml", "Cargo.toml", "clippy.toml", "rustfmt.toml")
KINDS = ("long", "phrase", "spelling")
# Files that quote what is wrong.
QUOTING = (
    "tests/python/docs/test_words.py",
    "tools/language/phrases.py",
    "tools/language/spelling.py",
)


def find_texts(root: Path) -> Iterator[Path]:
    """Yield all files whose words are checked."""
    single = (root / name for name in (*DOCUMENTS, *SETTINGS))
    yield from (path for path in single if path.exists())
    yield from find_files(root, ["docs"], [".md"])
    yield from find_files(root, [".github"], [".md", ".yml"])
    folders: list[str | Path] = [PACKAGE, *(f for f in CODE_FOLDERS if f != "python")]
    for path in find_files(root, folders, [".md", ".py", ".pyi", ".rs"]):
        if relative(path, root) not in QUOTING:
            yield path


def summarize(paths: list[str], findings: list[Finding]) -> Iterator[str]:
    """Yield the number of findings of each kind by folder, as lines."""
    counts = Counter((_folder(f.path), f.kind) for f in findings)
    files = Counter(map(_folder, paths))
    width = max(map(len, files), default=0)
    for folder in sorted(files):
        numbers = [f"{kind} {counts[folder, kind]:4d}" for kind in KINDS]
        yield f"{folder:{width}}  files {files[folder]:3d}  {'  '.join(numbers)}"
    totals = [f"{kind} {sum(f.kind == kind for f in findings):4d}" for kind in KINDS]
    yield f"{'all':{width}}  files {len(paths):3d}  {'  '.join(totals)}"


def _folder(path: str) -> str:
    parent = PurePosixPath(path).parent.as_posix()
    return path if parent in {".", "docs"} else f"{parent}/"


def main() -> int:
    """Check the tree; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument(
        "--summary", action="store_true", help="count all findings by folder"
    )
    options = parser.parse_args()
    root = options.root.resolve()
    paths = list(find_texts(root))
    findings = [
        finding
        for path in paths
        for finding in check_file(relative(path, root), path.read_text("utf-8"))
    ]
    if options.summary:
        print(*summarize([relative(path, root) for path in paths], findings), sep="\n")
    else:
        print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
