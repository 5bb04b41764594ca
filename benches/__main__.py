"""Runs the Python benches and compares the figures with the last release's.

`python -m benches` runs all groups; names of groups run only these and replace their older
figures in the file of results. `--smoke` runs every bench on small data, in a few minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

from benches.accuracy import sqnr
from benches.harness import machine, records
from benches.harness.figures import Sheet
from benches.harness.process import ROOT
from benches.harness.timing import BUSY
from benches.speed import (
    calls,
    channels,
    compat,
    counting,
    layouts,
    quantize,
    searches,
    strategies,
)
from benches.system import (
    calibration_profile,
    files,
    importing,
    memory,
    observing,
    observing_torch,
    scaling,
    torch_observers,
)

GROUPS: dict[str, ModuleType] = {
    "counting": counting,
    "layouts": layouts,
    "calls": calls,
    "channels": channels,
    "strategies": strategies,
    "searches": searches,
    "quantize": quantize,
    "files": files,
    "importing": importing,
    "compat": compat,
    "memory": memory,
    "observing": observing,
    "ocr": calibration_profile,
    "scaling": scaling,
    "torch": torch_observers,
    "hooks": observing_torch,
}
RESULTS = ROOT / "target" / "bench.json"
"""The file of results unless the arguments name another."""


def main() -> None:
    """Run the groups that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(GROUPS))
    parser.add_argument(
        "--smoke", action="store_true", help="small data, to check that all benches run"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="JSON file to write"
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write to benches/records/, as the results of this release",
    )
    given = parser.parse_args()
    unknown = sorted(set(given.groups) - set(GROUPS))
    if unknown:
        parser.error(
            f"unknown group {', '.join(unknown)}; choose from {', '.join(GROUPS)}"
        )
    head = machine.describe()
    machine.show(head)
    sheets: list[Sheet] = []
    for group in given.groups or GROUPS:
        load = machine.OtherLoad()
        sheet = GROUPS[group].main(smoke=given.smoke)
        if sheet is not None:
            sheet.others = load.share()
            sheet.show(verdicts=not given.smoke)  # targets are for the full size
            if sheet.others is not None and sheet.others > BUSY:
                share = 100 * sheet.others
                print(f"  other programs used {share:.0f} % of the processors")
            sheets.append(sheet)
    if given.smoke and not given.groups:
        # A full run writes a page of the documentation, so it is a separate command.
        sqnr.main(smoke=True)
    if given.smoke:
        return
    records.show_changes(head, sheets)
    results = records.release_file(head) if given.record else given.results
    records.write(results, head, sheets)
    print(f"\nWritten to {results}")


if __name__ == "__main__":
    main()
