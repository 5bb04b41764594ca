"""Several processes observe a share of the data each; their files merge exactly.

Histograms are counts, and counts add up. So the merged file has the same bytes as the file of
one process that observed everything.
"""

import multiprocessing
import tempfile
from pathlib import Path

import numpy as np

import quantcal as qc

WORKERS, BATCHES = 3, 12


def batch(number: int) -> dict[str, np.ndarray]:
    """Return the activations of one batch by tensor name, in place of a network."""
    rng = np.random.default_rng(number)
    hidden = rng.standard_normal((8, 512), dtype=np.float32)
    return {"hidden": hidden, "relu": np.maximum(hidden, 0)}


def observe(worker: int, folder: Path) -> None:
    """Observe every third batch and save the histograms."""
    cal = qc.Calibrator()
    for number in range(worker, BATCHES, WORKERS):
        cal.observe_many(batch(number))
    cal.save(folder / f"shard-{worker}.qcal")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [(worker, folder) for worker in range(WORKERS)]
        with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
            pool.starmap(observe, jobs)
        # On the command line: quantcal merge shard-*.qcal -o all.qcal
        merged = sum(qc.load(path) for path in sorted(folder.glob("shard-*.qcal")))

    alone = qc.Calibrator()
    for number in range(BATCHES):
        alone.observe_many(batch(number))
    print(f"{WORKERS} shards, {merged['hidden'].count} values of each tensor")
    print(f"the same bytes as one process: {merged.to_bytes() == alone.to_bytes()}")
    for tensor, params in merged.compute("mse", format="uint8").items():
        print(f"{tensor}: scale {params.scale:.5f}, zero point {params.zero_point}")


if __name__ == "__main__":
    main()
