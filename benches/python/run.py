"""All Python benches. `--smoke` shows in a minute that they still run."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import accumulate
import channels
import compare
import compat
import memory
import methods
import numpy as np
import search
import torch_observers

import quantcal as qc


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    threads = qc.get_num_threads()
    print(
        f"quantcal {qc.__version__}, numpy {np.__version__}, {_processor()}, {threads} threads"
    )
    for bench in (accumulate, channels, search, compare, compat, memory, torch_observers):
        bench.main(smoke=smoke)
    if smoke:  # in earnest it writes docs/methods.md, which is asked for by name
        methods.main(smoke=True)
