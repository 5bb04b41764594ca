"""Files that cannot be read or written are named; the old file stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quantcal as qc
import samples


def calibrator() -> qc.Calibrator:
    cal = qc.Calibrator()
    for name in ("conv1.input", "conv2.input"):
        cal.observe(name, samples.shape("gaussian", 1000))
    return cal


def fails(message: str) -> Any:
    return pytest.raises(qc.CalibrationError, match=message)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stats.qcal"
    calibrator().save(path)
    return path


@pytest.fixture
def json_file(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    calibrator().compute("mse").save(path)
    return path


LOADERS: dict[str, Callable[[Path], Any]] = {
    "calibrator": qc.load,
    "table": qc.CalibrationTable.load,
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_file_that_cannot_be_read_is_named(
    load: Callable[[Path], Any], tmp_path: Path
) -> None:
    with fails("missing.file cannot be read: No such file"):
        load(tmp_path / "missing.file")
    folder = tmp_path / "folder"
    folder.mkdir()
    with fails("folder cannot be read: Is a directory"):
        load(folder)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip",
        b"\x00" * 100,
        b"[1, 2]",
        b"3",
        b'{"a": 1}',
        b"\xff\xfe",
    ],
)
def test_a_foreign_file_is_named(
    load: Callable[[Path], Any], content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "foreign.file"
    path.write_bytes(content)
    with fails("foreign.file"):
        load(path)


def test_files_of_each_kind_are_reported_apart(file: Path, json_file: Path) -> None:
    with fails("table.json holds a table, not histograms"):
        qc.load(json_file)
    with fails("stats.qcal holds histograms, not a table; quantcal.load reads it"):
        qc.CalibrationTable.load(file)
    file.write_bytes(qc.Histogram().to_bytes())
    with fails("stats.qcal: these bytes hold another kind of object"):
        qc.load(file)


def test_a_truncated_file_is_called_that(file: Path) -> None:
    whole = file.read_bytes()
    for length in (1, 5, 20, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with fails(f"stats.qcal: the data end too early, after {length} bytes"):
            qc.load(file)


def test_an_altered_file_is_called_that(file: Path) -> None:
    whole = file.read_bytes()
    for at in (8, len(whole) // 3, len(whole) - 2):
        altered = bytearray(whole)
        altered[at] ^= 1
        file.write_bytes(altered)
        with fails("stats.qcal: the data (were altered|end too early)"):
            qc.load(file)
    file.write_bytes(whole + b"more")
    with fails("stats.qcal: the data were altered"):
        qc.load(file)


def test_a_newer_file_asks_for_an_upgrade(file: Path, json_file: Path) -> None:
    newer = bytearray(file.read_bytes())
    newer[4] = 9
    file.write_bytes(newer)
    with fails("stats.qcal: these bytes have format version 9.*upgrade quantcal"):
        qc.load(file)
    content = json.loads(json_file.read_text("utf-8"))
    content["version"] = 9
    json_file.write_text(json.dumps(content), "utf-8")
    with fails("table.json: table version 9 is newer than 2; upgrade quantcal"):
        qc.CalibrationTable.load(json_file)


def test_a_truncated_table_is_named(json_file: Path) -> None:
    whole = json_file.read_text("utf-8")
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 2):
        json_file.write_text(whole[:length], "utf-8")
        with fails("table.json"):
            qc.CalibrationTable.load(json_file)


def _tensor(content: Any) -> Any:
    return content["tensors"]["conv1.input"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(kind="x"), "not a calibration table"),
        (lambda c: c.pop("tensors"), "tensors is None"),
        (lambda c: c.update(tensors=[1, 2]), r"tensors is \[1, 2\]"),
        (lambda c: c.pop("version"), "version is None, but it must be 1 or 2"),
        (lambda c: c.update(version="one"), "version is 'one'"),
        (lambda c: c.update(version=0), "version is 0"),
        (lambda c: c.update(version=True), "version is True"),
        (lambda c: c.update(unused_rules="*"), r"unused_rules is '\*'"),
        (lambda c: _tensor(c).pop("scale"), 'tensor "conv1.input": scale is missing'),
        (
            lambda c: _tensor(c).update(color="red"),
            'tensor "conv1.input": "color" is not known; it has scale, ',
        ),
        (lambda c: _tensor(c).pop("report"), "report is missing; it may be null"),
        (lambda c: _tensor(c).update(report=[]), r"report is \[\], but"),
        (lambda c: _tensor(c)["report"].pop("count"), "count is missing"),
        (lambda c: _tensor(c)["report"].update(count=-1), "count of its report is -1"),
        (lambda c: _tensor(c)["report"].update(nan=0.5), "nan of its report is 0.5"),
        (lambda c: _tensor(c)["report"].update(mse="0"), "mse of its report is '0'"),
        (lambda c: _tensor(c)["report"].update(mse=None), "mse of its report is None"),
        (lambda c: _tensor(c)["report"].update(rule=3), "rule of its report is 3"),
        (
            lambda c: c["tensors"].update({"conv1.input": None}),
            'tensor "conv1.input": it is None, but it must be an object',
        ),
    ],
)
def test_a_table_with_other_content_is_named(
    change: Callable[[Any], Any], message: str, json_file: Path
) -> None:
    content = json.loads(json_file.read_text("utf-8"))
    change(content)
    json_file.write_text(json.dumps(content), "utf-8")
    with fails(rf"table\.json: .*{message}"):
        qc.CalibrationTable.load(json_file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"kind":' * 200_000, "nested too deeply"),
        ('{"kind": 1, "kind": 1}', 'key "kind" occurs twice'),
        ("9" * 5000, "not a calibration table"),
    ],
)
def test_json_that_no_program_writes_is_named(
    text: str, message: str, json_file: Path
) -> None:
    json_file.write_text(text, "utf-8")
    with fails(rf"table\.json: .*{message}"):
        qc.CalibrationTable.load(json_file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", -1.0),
        ("scale", 0.0),
        ("scale", "0.1"),
        ("scale", 10**400),
        ("low", -(10**400)),
        ("zero_point", 2**70),
        ("zero_point", 1000),
        ("zero_point", 0.5),
        ("format", "int1"),
        ("low", None),
        ("symmetric", "yes"),
    ],
)
def test_a_table_with_impossible_values_names_the_file_and_the_tensor(
    field: str, value: Any, json_file: Path
) -> None:
    content = json.loads(json_file.read_text("utf-8"))
    content["tensors"]["conv1.input"][field] = value
    json_file.write_text(json.dumps(content), "utf-8")
    with fails(r"table\.json.*conv1\.input"):
        qc.CalibrationTable.load(json_file)


@pytest.mark.parametrize(
    "settings",
    [
        '{"mantissa_bits": -1}',
        '{"mantissa_bits": 99}',
        '{"on_nonfinite": 3}',
        "[1]",
        "x",
        "[" * 200_000,
    ],
)
def test_settings_that_no_calibrator_has_are_named(
    settings: str, tmp_path: Path
) -> None:
    path = tmp_path / "stats.qcal"
    path.write_bytes(qc._core.write_archive(settings, []))
    with fails(r"stats\.qcal"):
        qc.load(path)


# Saving.


def both_files(tmp_path: Path) -> dict[str, Callable[[Path], None]]:
    cal = calibrator()
    return {"stats.qcal": cal.save, "table.json": cal.compute("minmax").save}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for name, save in both_files(tmp_path).items():
        with fails(f"missing/{name} cannot be written: No such file"):
            save(tmp_path / "missing" / name)
        with fails(f"file/{name} cannot be written: Not a directory"):
            save(tmp_path / "file" / name)


def test_saving_over_a_folder_fails_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    for save in both_files(tmp_path).values():
        with fails("folder cannot be written: Is a directory"):
            save(folder)
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("path", [".", "/", ""])
def test_a_path_that_names_no_file_is_a_directory(path: str, tmp_path: Path) -> None:
    for save in both_files(tmp_path).values():
        with fails("cannot be written: Is a directory"):
            save(path)  # type: ignore[arg-type]
    for load in (qc.load, qc.CalibrationTable.load):
        with fails("cannot be read: Is a directory"):
            load(path)


def test_a_path_with_a_null_byte_is_refused(tmp_path: Path) -> None:
    for save in both_files(tmp_path).values():
        with fails("cannot be written: embedded null"):
            save(tmp_path / "a\0b")
    for load in (qc.load, qc.CalibrationTable.load):
        with fails("cannot be read: embedded null"):
            load(tmp_path / "a\0b")


def test_an_interruption_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    for name, save in both_files(tmp_path).items():
        path = tmp_path / name
        path.write_text("the old file")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                save(path)
        assert path.read_text() == "the old file"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stats.qcal", "table.json"]


def test_a_table_from_a_file_has_names_that_a_file_can_keep(json_file: Path) -> None:
    text = json_file.read_text("utf-8")
    json_file.write_text(text.replace("conv1.input", r"\ud800"), "utf-8")
    with fails(r"table\.json: the name '\\ud800' holds half a surrogate pair"):
        qc.CalibrationTable.load(json_file)


def test_a_save_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name, save in both_files(tmp_path).items():
        path = tmp_path / name
        path.write_text("the old file")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", full)
            with fails(f"{name} cannot be written: No space left on device"):
                save(path)
        assert path.read_text() == "the old file"
        save(path)
        assert path.read_text(errors="replace") != "the old file"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stats.qcal", "table.json"]


def test_a_write_that_breaks_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while the new file is written."""
    path = tmp_path / "stats.qcal"
    cal = calibrator()
    cal.save(path)
    before = path.read_bytes()
    cal.observe("more", samples.shape("laplace", 100))
    with monkeypatch.context() as patch:
        patch.setattr("quantcal._io.temporary.os.write", half)
        with fails("stats.qcal cannot be written: No space left on device"):
            cal.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def half(number: int, data: memoryview) -> int:
    """Write to a disk that has no room for the second half."""
    written = 0
    while written < len(data) // 2:
        written += os.pwrite(number, data[written : len(data) // 2], written)
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_number_of_a_report_is_finite(value: str, json_file: Path) -> None:
    """JSON has no such numbers, but Python's reader takes them."""
    content = json.loads(json_file.read_text("utf-8"))
    content["tensors"]["conv1.input"]["report"]["mse"] = "@"
    json_file.write_text(json.dumps(content).replace('"@"', value), "utf-8")
    with fails('"conv1.input".*mse of its report is .*, but it must be a number'):
        qc.CalibrationTable.load(json_file)
