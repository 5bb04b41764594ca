"""Writes the table of targets at the head of benches/README.md from a file of results.

`python benches/python/table.py FILE` writes it; without a file, from the newest recorded one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from figures import number
from recorded import FOLDER
from yardsticks import TOGETHER

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- measured: python benches/python/table.py -->", "<!-- end -->"

COMMANDS = {
    "counting": "counting",
    "counting other values and types": "layouts",
    "many small arrays": "calls",
    "by channel": "channels",
    "all methods": "methods",
    "searching": "searches",
    "quantising": "quantise",
    "files": "files",
    "importing": "importing",
    "calibrating PP-OCR": "ocr",
    "scaling": "scaling",
}
"""What each group is called on the command line, in the order of the table."""


def table(run: dict[str, Any]) -> str:
    """Return the Markdown of all figures that have a target."""
    machine = run["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; {versions}. Medians of rounds in turns, with the least and "
        "the most; every group is a command of its own, "
        "`python benches/python/run.py GROUP`.",
        "",
        "| work | | measured | target | | group |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    groups = {title: run["groups"].get(title) for title in COMMANDS}
    for title, group in groups.items():
        rows = (
            [figure for figure in group["figures"] if figure["target"]] if group else []
        )
        lines += [_row(figure, COMMANDS[title]) for figure in rows]
    reached = sum("| reached |" in line for line in lines)
    missed = sum("| **missed** |" in line for line in lines)
    lines += ["", f"{reached} reached, {missed} missed.", ""]
    lines += [
        "| group | date | commit | other programs took | two threads that share nothing |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for title, group in groups.items():
        if group:
            lines.append(
                f"| `{COMMANDS[title]}` | {group['date']} | {group['commit']} | "
                f"{100 * (group['others'] or 0):.0f} % | {_together(group)} |"
            )
    return "\n".join(lines)


def _together(group: dict[str, Any]) -> str:
    """Return how much faster two processors were in the rounds of a group, if it has that."""
    for figure in group["figures"]:
        if figure["work"] == TOGETHER:
            return _measured(figure)
    return ""


def _row(figure: dict[str, Any], command: str) -> str:
    work, how = (figure[key].replace("|", "\\|") for key in ("work", "how"))
    verdict = figure["verdict"]
    verdict = f"**{verdict}**" if verdict == "missed" else verdict
    return (
        f"| {work} | {how} | {_measured(figure)} | {figure['target']} | {verdict} | "
        f"`{command}` |"
    )


def _measured(figure: dict[str, Any]) -> str:
    extent = ""
    if figure["low"] != figure["high"]:
        extent = f" ({number(figure['low'])}–{number(figure['high'])})"
    return f"{number(figure['value'])}{extent} {figure['unit']}".strip()


def write(run: dict[str, Any]) -> None:
    """Put the table between its marks in the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(run)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    file = parser.parse_args().file or max(FOLDER.glob("*.json"))
    write(json.loads(file.read_text(encoding="utf-8")))
