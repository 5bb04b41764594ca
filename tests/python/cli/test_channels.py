"""The commands on histograms by channel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quantcal as qc
import samples
from cli_runs import call


@pytest.fixture
def stats(tmp_path: Path) -> Path:
    cal = qc.Calibrator()
    cal.observe("conv", samples.shape("relu", 600).reshape(2, 6, 50), axis=1)
    cal.observe("whole", samples.shape("gaussian", 700))
    path = tmp_path / "stats.qcal"
    cal.save(path)
    return path


def test_inspect_shows_channels_and_axis(stats: Path) -> None:
    done = call("inspect", stats)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["tensor", "count", "channels"]
    assert lines[2].startswith("conv")
    assert "6 × axis 1" in lines[2]
    assert "axis" not in lines[3]
    alone = call("inspect", stats, "--match", "whole")
    assert "channels" not in alone.out


def test_inspect_tells_programs_too(stats: Path) -> None:
    conv, whole = json.loads(call("inspect", stats, "--json").out)["tensors"]
    assert (conv["channels"], conv["axis"], conv["count"]) == (6, 1, 600)
    assert (whole["channels"], whole["axis"]) == (None, None)


def test_merge_adds_channels(stats: Path, tmp_path: Path) -> None:
    again, merged = tmp_path / "again.qcal", tmp_path / "merged.qcal"
    again.write_bytes(stats.read_bytes())
    done = call("merge", stats, again, "-o", merged)
    assert (done.code, done.err) == (0, "")
    assert qc.load(merged) == qc.load(stats) + qc.load(stats)


def test_merge_names_the_file_and_the_tensor_that_do_not_fit(
    stats: Path, tmp_path: Path
) -> None:
    cal = qc.Calibrator()
    cal.observe("conv", samples.shape("relu", 600).reshape(2, 6, 50), axis=0)
    other, merged = tmp_path / "other.qcal", tmp_path / "merged.qcal"
    cal.save(other)
    message = call("merge", stats, other, "-o", merged).error_text()
    for part in (str(other), '"conv"', "axis is 0", "had axis 1"):
        assert part in message
    assert not merged.exists()
