"""The scripts in examples/ run and print what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from paths import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def number(text: str, pattern: str) -> float:
    """Return the number that a pattern finds."""
    found = re.search(pattern, text)
    assert found, (pattern, text)
    return float(found[1])


def calibrate_array(shown: str) -> None:
    lines = shown.splitlines()
    assert lines[1].split()[0] == "int8"
    errors = {line.split()[0]: float(line.split()[-1]) for line in lines[1:6]}
    # A Laplace variable of variance 2: 8 bits lose about 0.02, 4 bits ten times as much.
    assert 0.01 < errors["int8"] < 0.05 < errors["int4"] < 0.5
    assert 0.01 < errors["float8_e4m3fn"] < 0.05 < errors["float4_e2m1fn"] < 0.5
    assert -6 <= number(shown, r"scale 2\^(-?\d+)") <= -2


def merge_shards(shown: str) -> None:
    assert "3 shards, 49152 values of each tensor\n" in shown
    assert "the same bytes as one process: True\n" in shown
    assert 0 < number(shown, r"relu: scale ([\d.]+), zero point 0\n") < 0.03


def compare_strategies(shown: str) -> None:
    assert shown.count("minmax ") == shown.count("mse ") == 3
    assert shown.count("smallest noise: mse\n") == 3
    minmax, kl = (
        number(shown[shown.index("outliers") :], rf"{name} +up to +([\d.]+)")
        for name in ("minmax", "kl")
    )
    assert minmax > 30 > kl
    assert "why: half_gauss; Kolmogorov distances: half_gauss 0.0" in shown
    assert shown.splitlines()[-1].startswith("safest: mse, minimum ")


def custom_strategy(shown: str) -> None:
    attention, feed_forward = shown.splitlines()
    # Of a normal distribution of deviation 1; rounding the zero point moves it half a step.
    high = number(attention, r"^attention: deviations\(4\), \[-[\d.]+, ([\d.]+)\], ")
    assert high == pytest.approx(4, abs=0.05)
    assert attention.endswith("standard deviation 1.00")
    assert feed_forward.startswith("feed_forward: hybrid(deviations(12), mse), [")


def quantize_onnx(shown: str) -> None:
    assert number(shown, r"QuantizeLinear nodes: (\d+)\n") >= 2
    # Two layers of 8-bit activations and weights of 7 or 8 bits.
    assert 0.001 < number(shown, r"outputs: ([\d.]+)% of") / 100 < 0.03
    assert number(shown, r"same class: (\d+)%") >= 80


def policy(shown: str) -> None:
    assert re.search(r"layers\.1\.attention\.probs +fixed\(0, 1\) +high +1\.000", shown)
    assert re.search(r"layers\.0\.mlp\.up_proj +minmax .* by re:layers", shown)
    assert re.search(r"layers\.0\.mlp\.down_proj +percentile_99\.99_each ", shown)
    assert re.search(r"layers\.1\.mlp\.up_proj +mse .* by \*\n", shown)
    assert shown.endswith("unused rules: []\n")


CHECKS: dict[str, Callable[[str], None]] = {
    check.__name__: check
    for check in (
        calibrate_array,
        merge_shards,
        compare_strategies,
        custom_strategy,
        quantize_onnx,
        policy,
    )
}


def test_every_example_is_checked() -> None:
    assert {script.stem for script in SCRIPTS} == set(CHECKS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs_and_prints_what_it_promises(
    script: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    CHECKS[script.stem](done.stdout)
    assert list(tmp_path.iterdir()) == []
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    assert f"examples/{script.name}" in readme
