"""What each way of choosing ranges does to a real language model, in perplexity.

Observes SmolLM2-135M once and quantizes the inputs of its linear layers by every method, on
all layers and on one kind of layer only; then leaves the worst tensors in float, takes 4
bits, a range for each channel and each token, and SmoothQuant. Writes the tables of
docs/llm.md and a picture of the worst tensors.

    python examples/llm_perplexity.py --output llm-results

takes less than 30 minutes on two idle cores, and 6 GB. Where it would take longer, it reads
fewer windows, and says so. What was measured is kept in the folder, so the same command goes
on where a run was stopped. Needs the extra:
pip install "quantcal[llm]".
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

for library in ("OPENBLAS", "MKL", "VECLIB", "BLIS"):  # numpy's, before it is loaded:
    os.environ[f"{library}_NUM_THREADS"] = "1"  # each window is read by one core

WINDOWS, FIRST, MINUTES = 16, 4, 29.0


def main() -> None:
    """Measure, and write tables and pictures."""
    options = arguments()
    from llm.experiment import Experiment

    options.output.mkdir(parents=True, exist_ok=True)
    Experiment(options).run()


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path("llm-results"),
        help="a folder for all results",
    )
    add(
        "--windows",
        type=int,
        default=WINDOWS,
        help="windows of 512 tokens of each text for each method and kind of layer, and "
        f"for mixed precision (default: {WINDOWS}, 8176 predictions; 2 if these show "
        "the model destroyed)",
    )
    add(
        "--first",
        type=int,
        default=FIRST,
        help=f"windows of each text for all else (default: {FIRST})",
    )
    add(
        "--calibration-windows",
        type=int,
        default=8,
        help="windows of each of the two calibration texts (default: 8)",
    )
    add("--threads", type=int, help="windows read at once (default: one a core)")
    add("--methods", nargs="*", help="the methods to compare (default: all)")
    add(
        "--only-matrix",
        action="store_true",
        help="leave out the 4 bits, channels, tokens, SmoothQuant and mixed precision",
    )
    add(
        "--minutes",
        type=float,
        default=MINUTES,
        help="begin no window that would end later; the same command reads what is left "
        f"(default: {MINUTES:g})",
    )
    add(
        "--page",
        type=Path,
        help="a page in Markdown, to renew the tables between <!-- table ... --> in it",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
