"""Writes the table in benches/README.md from a record.

`python -m benches.harness.table FILE` takes that record; without a file, the newest one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benches.harness.figures import number
from benches.harness.process import ROOT
from benches.harness.records import FOLDER
from benches.harness.yardsticks import TWO_THREADS

PAGE = ROOT / "benches" / "README.md"
"""The page whose table is rewritten, between two markers."""

BEGIN, END = "<!-- table: python -m benches.harness.table -->", "<!-- end of table -->"


def table(run: dict[str, Any]) -> str:
    """Return the Markdown of all figures with a target, and of the machine."""
    groups = run["groups"]
    shown = [
        (name, figure)
        for name, group in groups.items()
        for figure in group["figures"]
        if figure["target"]
    ]
    verdicts = [figure["verdict"] for _, figure in shown]
    lines = [
        _machine(run["machine"]),
        *_dates(groups),
        _limits(groups),
        f"{verdicts.count('reached')} targets reached, {verdicts.count('missed')} missed.",
        "",
        "| group | work | median | minimum – maximum | target | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        *(_row(name, figure) for name, figure in shown),
    ]
    return "\n".join(lines)


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']};\n{versions}."
    )


def _dates(groups: dict[str, Any]) -> list[str]:
    """Return when the groups were measured, and how busy other programs were."""
    runs: dict[tuple[str, str], list[str]] = {}
    for name, group in groups.items():
        runs.setdefault((group["date"], group["commit"]), []).append(name)
    lines = []
    for (date, commit), names in runs.items():
        which = "All groups" if len(runs) == 1 else ", ".join(names)
        share = max(groups[name]["others"] or 0 for name in names)
        lines.append(
            f"{which}: {date}, commit {commit}; other programs used at most "
            f"{100 * share:.0f} % of the processors."
        )
    return lines


def _limits(groups: dict[str, Any]) -> str:
    """Return the speed-up of two independent threads in the groups that measure it."""
    found = [
        f"{number(figure['value'])} × in {name}"
        for name, group in groups.items()
        for figure in group["figures"]
        if figure["work"] == TWO_THREADS
    ]
    return f"Speed-up of two independent threads: {', '.join(found) or 'not measured'}."


def _row(group: str, figure: dict[str, Any]) -> str:
    work = f"{figure['work']}; {figure['how']}".replace("|", "\\|")
    spread = ""
    if figure["low"] != figure["high"]:
        spread = f"{number(figure['low'])} – {number(figure['high'])}"
    verdict = figure["verdict"]
    verdict = f"**{verdict}**" if verdict == "missed" else verdict
    median = f"{number(figure['value'])} {figure['unit']}".strip()
    return (
        f"| {group} | {work} | {median} | {spread} | {figure['target']} | {verdict} |"
    )


def main() -> None:
    """Rewrite the table between its markers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="a record")
    file = parser.parse_args().file or max(FOLDER.glob("*.json"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{PAGE} has no markers {BEGIN} and {END}: add them.")
    made = table(json.loads(file.read_text(encoding="utf-8")))
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
