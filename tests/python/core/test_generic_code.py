"""The generic and the SIMD code give the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

PROGRAM = """
import hashlib
import ml_dtypes, numpy as np, quantcal as qc
from quantcal import _core

r = np.random.default_rng(5)
digest = hashlib.sha256()
x = r.standard_normal(300_000) * np.exp2(r.integers(-130, 100, 300_000))
x[::7] = 0.0
x[::1001] = [np.nan, np.inf, -np.inf] * 100
x[5000:9000] = 0.37
normal = r.standard_normal(300_000)
with np.errstate(over="ignore"):
    for data in (x, normal, np.maximum(normal, 0.0)):  # odd values, no zeros, many zeros
        for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
            for size in (100, 2000, 5000, 300_000):
                values = data[:size].astype(dtype)
                for m in (None, 5, 8, 12):
                    digest.update(qc.Histogram(m).observe(values).to_bytes())
with np.errstate(over="ignore"):
    weight = x.astype(np.float32).reshape(600, 500)
for format in ("int4", "uint4"):
    shares = np.linspace(1, 0.6, 21, dtype=np.float32)
    codes, scale, _ = _core.code_blocks(weight, qc.QuantFormat(format), 0, 32, shares)
    digest.update(codes.tobytes() + scale.tobytes())
print(digest.hexdigest())
"""


def run(**variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "QUANTCAL_GENERIC"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_wide_and_generic_code_give_the_same_bytes(threads: str) -> None:
    wide = run(QUANTCAL_NUM_THREADS=threads)
    assert len(wide) == 2 * hashlib.sha256().digest_size
    assert run(QUANTCAL_NUM_THREADS=threads, QUANTCAL_GENERIC="1") == wide
