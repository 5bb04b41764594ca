"""All Python benches, with targets and what has changed since the last release.

`python benches/python/run.py` runs all; names of groups run these alone, and their figures
take the place of older ones in the file of results. `--smoke` shows in a minute or two
that all still run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import accumulate
import calls
import channels
import compare
import compat
import files
import importing
import layouts
import machine
import memory
import methods
import observing
import observing_torch
import profile_ocr
import quantise
import recorded
import scaling
import searches
import torch_observers
from figures import Sheet
from timing import BUSY

GROUPS = {
    "counting": accumulate,
    "layouts": layouts,
    "calls": calls,
    "channels": channels,
    "methods": compare,
    "searches": searches,
    "quantise": quantise,
    "files": files,
    "importing": importing,
    "compat": compat,
    "memory": memory,
    "observing": observing,
    "ocr": profile_ocr,
    "scaling": scaling,
    "torch": torch_observers,
    "hooks": observing_torch,
}
RESULTS = Path(__file__).parent.parent.parent / "target" / "bench.json"


def main() -> None:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(GROUPS))
    parser.add_argument(
        "--smoke", action="store_true", help="small, for seeing that it runs"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="JSON file that is written"
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write to benches/recorded/, as the results of this release",
    )
    given = parser.parse_args()
    unknown = sorted(set(given.groups) - set(GROUPS))
    if unknown:
        parser.error(f"no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    head = machine.describe()
    machine.show(head)
    sheets: list[Sheet] = []
    for group in given.groups or GROUPS:
        others = machine.Others()
        sheet = GROUPS[group].main(smoke=given.smoke)
        if sheet is not None:
            sheet.others = others.share()
            sheet.show(verdicts=not given.smoke)  # targets are for the full size
            if sheet.others is not None and sheet.others > BUSY:
                print(
                    f"  other programs took {100 * sheet.others:.0f} % of the processors"
                )
            sheets.append(sheet)
    if given.smoke and not given.groups:
        # In earnest it writes docs/reference/strategies.md, which is asked for by name.
        methods.main(smoke=True)
    if given.smoke:
        return
    recorded.show_changes(head, sheets)
    results = recorded.release_file(head) if given.record else given.results
    recorded.write(results, head, sheets)
    print(f"\nWritten to {results}")


if __name__ == "__main__":
    main()
