"""Which inputs of SmolLM2 to leave in float: what `quantcal.torch.advise` finds, and its gain.

    python -m research.llm.float_inputs --output llm-advice

Ranges come from the windows of the perplexity experiment. `advise` chooses the strategy,
quantizes the inputs of all linear layers in the blocks, and reads other windows of the
calibration texts. The perplexity is measured on the evaluation texts.
Prints a table in Markdown for docs/measurements/llm.md, and writes the advice as JSON.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Each window is read by one core. Numpy's libraries read this when they are loaded.
for library in ("OPENBLAS", "MKL", "VECLIB", "BLIS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"


def main() -> None:
    """Advise, measure the perplexities, print the table."""
    options = arguments()
    from .advised import run

    options.output.mkdir(parents=True, exist_ok=True)
    run(options)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("llm-advice"), help="a folder for results")
    add(
        "--strategy",
        default="auto",
        help="how ranges are chosen (default: auto, which advise settles)",
    )
    add("--samples", type=int, default=8, help="samples for advise (default: 8)")
    add("--tokens", type=int, default=256, help="tokens of a sample (default: 256)")
    add("--keep", type=int, default=4, help="inputs in float (default: 4)")
    add(
        "--windows",
        type=int,
        default=16,
        help="windows of 512 tokens of each evaluation text (default: 16)",
    )
    add("--minutes", type=float, help="time limit of advise (default: none)")
    add("--remedies", action="store_true", help="try other ranges and 16 bits too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
