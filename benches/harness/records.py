"""Results in files: writes a run, reads the last release's, and reports what became slower.

Figures of two machines, or of one machine on two days, are not comparable. So each figure is
divided by its yardstick, simple work timed in the same rounds, and the quotients are compared.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benches.harness.figures import Figure, Sheet, number
from benches.harness.timing import BUSY

FOLDER = Path(__file__).parents[1] / "records"

NOISE = 1.10
"""Medians of one build differ by a smaller factor than this on a quiet machine."""

BUSY_NOISE = 1.5
"""The same while other programs are busy."""

Run = dict[str, Any]


def write(path: Path, machine: dict[str, Any], sheets: list[Sheet]) -> None:
    """Write a run. Groups in the file that this run lacks are kept."""
    groups: dict[str, Any] = {}
    if path.exists():
        groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
    for sheet in sheets:
        groups[sheet.group] = {
            "date": machine["date"],
            "commit": machine["commit"],
            "others": sheet.others,
            "figures": [figure.as_dict() for figure in sheet.figures],
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, "groups": groups}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def release_file(machine: dict[str, Any]) -> Path:
    """Return the file for the results of this version on this machine."""
    words = re.findall(r"[a-z0-9]+", machine["processor"].lower())
    return FOLDER / f"{machine['versions']['quantcal']}-{'-'.join(words)}.json"


def last_release(processor: str) -> tuple[Path, Run] | None:
    """Return the newest record, of this processor if there is one."""
    runs = [
        (path, json.loads(path.read_text(encoding="utf-8")))
        for path in FOLDER.glob("*.json")
    ]
    if not runs:
        return None

    def rank(entry: tuple[Path, Run]) -> tuple[bool, list[int], str]:
        machine = entry[1]["machine"]
        version = [int(part) for part in machine["versions"]["quantcal"].split(".")]
        return machine["processor"] == processor, version, machine["date"]

    return max(runs, key=rank)


def show_changes(machine: dict[str, Any], sheets: list[Sheet]) -> None:
    """Print each figure that has a yardstick beside the recorded one."""
    found = last_release(machine["processor"])
    if found is None:
        print("\nThere are no records to compare with.")
        return
    path, run = found
    then = run["machine"]
    print(
        f"\nCompared with quantcal {then['versions']['quantcal']} ({path.name}: "
        f"{then['processor']}, {then['date']})\n"
        "  in yardsticks: as multiples of the simple work in the last column"
    )
    print(
        f"  {'':<66} {'now':>8} {'then':>8} {'ratio':>6}   "
        f"{'in yardsticks':>15} {'ratio':>6}"
    )
    slower = 0
    for sheet in sheets:
        group = run["groups"].get(sheet.group, {"figures": []})
        old = {figure.key: figure for figure in map(_figure, group["figures"])}
        others = max(sheet.others or 0, group.get("others") or 0)
        noise = BUSY_NOISE if others > BUSY else NOISE
        for now in sheet.figures:
            was = old.get(now.key)
            if was is None or not (now.yardstick_value and was.yardstick_value):
                continue
            if was.yardstick != now.yardstick:
                continue
            slower += _show_change(now, was, noise)
    print(
        f"  {slower} figures are slower than recorded, beyond noise"
        if slower
        else "  No figure is slower than recorded."
    )


def _show_change(now: Figure, was: Figure, noise: float) -> bool:
    new, old = now.value / now.yardstick_value, was.value / was.yardstick_value
    slow = is_slower(now, was, noise)
    word = "SLOWER" if slow else "faster" if is_slower(was, now, noise) else ""
    print(
        f"  {now.work + ', ' + now.how:<66.66} {number(now.value):>8} "
        f"{number(was.value):>8} {now.value / was.value:6.2f}   "
        f"{number(new):>7} {number(old):>7} {new / old:6.2f}  "
        f"{word:<6} {now.yardstick}"
    )
    return slow


def is_slower(now: Figure, was: Figure, noise: float = NOISE) -> bool:
    """Return whether one figure is above another beyond noise, both in yardsticks.

    The medians must differ by more than the factor `noise`, and the minimum of the one must
    lie above the maximum of the other.
    """
    assert now.yardstick_value
    assert was.yardstick_value
    median = (now.value / now.yardstick_value) / (was.value / was.yardstick_value)
    apart = now.low / now.yardstick_value > was.high / was.yardstick_value
    return median > noise and apart


def _figure(fields: dict[str, Any]) -> Figure:
    derived = ("target", "verdict")
    return Figure(**{name: v for name, v in fields.items() if name not in derived})
