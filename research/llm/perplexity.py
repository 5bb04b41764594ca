"""The perplexity of a language model with every strategy for the ranges of its activations.

Observes SmolLM2-135M once and quantizes the inputs of its linear layers with every strategy,
in all layers and in one kind of layer. Then it leaves the worst tensors in float, and tries
4 bits, ranges by channel and by token, and SmoothQuant. Writes the tables of
docs/measurements/llm.md and a picture of the worst tensors.

    python -m research.llm.perplexity --output llm-results

takes less than 30 minutes on two idle cores, and 6 GB. A slower machine reads fewer windows,
which is reported. Results are stored in the folder, so the same command continues a stopped
run. Needs the extra: pip install "quantcal[llm]".
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Each window is read by one core. Numpy's libraries read this when they are loaded.
for library in ("OPENBLAS", "MKL", "VECLIB", "BLIS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

WINDOWS, FIRST, MINUTES = 16, 4, 29.0


def main() -> None:
    """Measure; write tables and pictures."""
    options = arguments()
    from .experiment import Experiment

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
        help="windows of 512 tokens of each text, for strategies and for mixed precision "
        f"(default: {WINDOWS}, 8176 predictions; 2 if these show the model destroyed)",
    )
    add(
        "--first",
        type=int,
        default=FIRST,
        help=f"windows of each text for everything else (default: {FIRST})",
    )
    add(
        "--calibration-windows",
        type=int,
        default=8,
        help="windows of each of the two calibration texts (default: 8)",
    )
    add("--threads", type=int, help="windows read in parallel (default: one per core)")
    add("--strategies", nargs="*", help="the strategies to compare (default: all)")
    add(
        "--only-matrix",
        action="store_true",
        help="skip 4 bits, channels, tokens, SmoothQuant and mixed precision",
    )
    add(
        "--minutes",
        type=float,
        default=MINUTES,
        help="start no window that would end later; the same command continues "
        f"(default: {MINUTES:g})",
    )
    add(
        "--page",
        type=Path,
        help="a page in Markdown, whose tables between <!-- table ... --> are rewritten",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
