"""A calibrator in a `with` block is saved at its end, if asked and if nothing failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quantcal as qc
from quantcal import _core
from samples import f32


def test_the_end_of_a_block_saves(tmp_path: Path) -> None:
    path = tmp_path / "stats.qcal"
    with qc.Calibrator(save_to=path) as cal:
        cal.observe("x", f32([1, 2]))
        assert not path.exists()
    assert qc.load(path) == cal
    assert cal.save_to == path
    with cal:  # again: more of the same data
        cal.observe("x", f32([3]))
    assert qc.load(path)["x"].count == 3


def test_a_block_without_a_file_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with qc.Calibrator() as cal:
        cal.observe("x", f32([1, 2]))
    assert cal.save_to is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_file_of_an_earlier_run(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "stats.qcal"
    with qc.Calibrator(save_to=str(path)) as earlier:
        earlier.observe("x", f32([1, 2]))

    def stopped() -> None:
        with qc.Calibrator(save_to=path) as cal:
            cal.observe("x", f32([9]))
            raise error

    with pytest.raises(error):
        stopped()
    assert qc.load(path) == earlier


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "stats.qcal"):
        with (
            pytest.raises(qc.CalibrationError, match="cannot be written"),
            qc.Calibrator(save_to=path),
        ):
            pytest.fail("the block was entered")


def test_the_file_is_no_part_of_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "stats.qcal"
    with qc.Calibrator(save_to=path) as cal:
        cal.observe("x", f32([1]))
    plain = qc.Calibrator()
    plain.observe("x", f32([1]))
    assert cal == plain
    assert cal.to_bytes() == plain.to_bytes()
    assert qc.load(path).save_to is None
    assert (cal + plain).save_to is None


def test_a_file_cannot_choose_what_is_written(tmp_path: Path) -> None:
    settings = {"on_nonfinite": "ignore", "save_to": str(tmp_path / "other.qcal")}
    data = bytes(_core.write_archive(json.dumps(settings), []))
    with pytest.raises(qc.CalibrationError, match="they name a file to save to"):
        qc.Calibrator.from_bytes(data)
