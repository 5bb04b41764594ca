"""Runs the demo from a shell: ``python -m quantcal.demo``."""

from __future__ import annotations

import argparse
import sys

from quantcal.demo import SEED, STRATEGIES, DemoError, run, show


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and print its table; return 0, or 1 when something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m quantcal.demo", description=__doc__
    )
    parser.add_argument("--lines", type=int, default=400, help="lines to read")
    parser.add_argument("--calibration-lines", type=int, default=64)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--output", default="demo-output", help="folder to write to")
    parser.add_argument("--seed", type=int, default=SEED, help="chooses the lines")
    parser.add_argument("--quiet", action="store_true", help="only the table")
    options = parser.parse_args(arguments)
    try:
        result = run(
            calibration_lines=options.calibration_lines,
            evaluation_lines=options.lines,
            strategies=options.strategies,
            output=options.output,
            seed=options.seed,
            progress=not options.quiet,
        )
    except (DemoError, ImportError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
