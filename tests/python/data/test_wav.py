"""Samples of WAV files, beside Python's own writer and plain arithmetic."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc
from quantcal.data.wav_file import read_frames, read_header, resample
from quantcal.onnx import InputSpec, load_samples

F32 = np.dtype("float32")


def write_wave(
    path: Path, content: bytes, width: int, channels: int, rate: int
) -> None:
    """Write whole numbers by Python's own writer."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)


def write_form(
    path: Path, kind: int, bits: int, content: bytes, *, more: bytes = b""
) -> None:
    """Write one channel of any form, with an odd chunk in front."""
    width = bits // 8
    form = struct.pack("<HHIIHH", kind, 1, 8000, 8000 * width, width, bits) + more
    chunks = [(b"LIST", b"odd"), (b"fmt ", form), (b"data", content)]
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for name, data in chunks
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body)


def save(path: Path, values: Any, rate: int = 8000) -> None:
    """Write values of -1 to 1 with 16 bits, [frames] or [frames, channels]."""
    whole = np.rint(np.asarray(values) * 32767).astype("<i2")
    channels = 1 if whole.ndim == 1 else whole.shape[1]
    write_wave(path, whole.tobytes(), 2, channels, rate)


@given(
    width=st.sampled_from([1, 2, 3, 4]),
    channels=st.integers(1, 3),
    numbers=st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=30),
)
def test_whole_numbers_of_every_width_come_back(
    width: int, channels: int, numbers: list[int], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    bits = 8 * width
    whole = [number >> (32 - bits) for number in numbers]
    whole = whole[: len(whole) // channels * channels]
    offset = 128 if width == 1 else 0
    content = b"".join(
        (number + offset).to_bytes(width, "little", signed=width > 1)
        for number in whole
    )
    write_wave(path, content, width, channels, 8000)
    header = read_header(path)
    assert (header.channels, header.rate, header.bits) == (channels, 8000, bits)
    assert header.frames == len(whole) // channels
    found = read_frames(path, header)
    wanted = np.array(whole, np.float64).reshape(-1, channels) / (1 << (bits - 1))
    np.testing.assert_array_equal(found, wanted.astype(np.float32))


@given(
    values=st.lists(st.floats(-2, 2, width=32), max_size=20),
    bits=st.sampled_from([32, 64]),
    extensible=st.booleans(),
)
def test_floats_come_back(
    values: list[float], bits: int, extensible: bool, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    more = struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", 3) + bytes(14)
    content = np.array(values, f"<f{bits // 8}").tobytes()
    kind = 0xFFFE if extensible else 3
    write_form(path, kind, bits, content, more=more if extensible else b"")
    found = read_frames(path, read_header(path))
    np.testing.assert_array_equal(found[:, 0], np.float32(values))


@pytest.mark.parametrize("old", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("new", [8000, 16000, 44100])
def test_a_tone_stays_the_same_tone_at_another_rate(old: int, new: int) -> None:
    # 1 s of whole periods, so that the signal continues at its ends.
    def tone(rate: int) -> Any:
        time = np.arange(rate) / rate
        return np.sin(2 * np.pi * 440 * time) + 0.3 * np.cos(2 * np.pi * 1200 * time)

    found = resample(tone(old).astype(np.float32)[:, None], old, new)
    assert found.shape == (new, 1)
    np.testing.assert_allclose(
        found[:, 0], tone(new), atol=3e-6
    )  # float32 at both ends


def test_frequencies_above_the_limit_are_removed() -> None:
    time = np.arange(48000) / 48000
    high = np.sin(2 * np.pi * 9000 * time).astype(np.float32)[:, None]
    assert np.abs(resample(high, 48000, 16000)).max() < 1e-6


def test_files_are_cut_into_pieces_of_the_models_length(tmp_path: Path) -> None:
    values = np.linspace(-0.9, 0.9, 25)
    save(tmp_path / "b.wav", values)
    save(tmp_path / "a.wav", values[:4])
    (tmp_path / ".c.wav").touch()
    source = qc.data.wav(tmp_path, sample_rate=8000, length=10)
    whole = np.rint(values * 32767).astype(np.float32) / 32768
    pieces = [sample["audio"] for sample in source]
    assert len(source) == len(pieces) == 3
    np.testing.assert_array_equal(pieces[0], [[*whole[:4], *[0] * 6]])
    np.testing.assert_array_equal(pieces[1], [whole[:10]])
    np.testing.assert_array_equal(pieces[2], [whole[10:20]])
    fixed = load_samples(
        qc.data.wav(tmp_path, sample_rate=8000), [InputSpec("x", F32, (1, 10))]
    )
    assert [sample["x"].tolist() for sample in fixed] == [p.tolist() for p in pieces]
    whole_files = qc.data.wav(tmp_path, sample_rate=8000)
    assert [sample["audio"].shape for sample in whole_files] == [(1, 4), (1, 25)]
    two = qc.data.wav(tmp_path, sample_rate=8000, length=5, max_samples=2)
    assert [s["audio"][0, 0] for s in two] == [whole[0], whole[10]]  # of 1 + 5 pieces


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((None, None), (1, 6)),
        ((6,), (6,)),
        ((None,), (6,)),
        ((1, 1, 6), (1, 1, 6)),
        ((None, None, None), (1, 1, 6)),
        ((1, 6, 1), (1, 6, 1)),
        ((1, 2, None), (1, 2, 6)),
        ((1, None, 2), (1, 6, 2)),
        ((2, 3), (2, 3)),
    ],
)
def test_axes_are_those_of_the_model(shape: Any, wanted: Any, tmp_path: Path) -> None:
    stereo = np.stack([np.linspace(0, 0.5, 6), np.linspace(0.5, 0, 6)], axis=1)
    save(tmp_path / "a.wav", stereo)
    samples = load_samples(
        qc.data.wav(tmp_path, sample_rate=8000), [InputSpec("x", F32, shape)]
    )
    (sample,) = samples
    assert sample["x"].shape == wanted
    if 2 in wanted[1:]:  # both channels
        channels = sample["x"][0] if wanted[1] == 6 else sample["x"][0].T
        np.testing.assert_allclose(channels, stereo, atol=1e-4)
    else:
        np.testing.assert_allclose(sample["x"].ravel(), 0.25, atol=1e-4)


def test_mono_is_doubled_and_int16_stays_whole(tmp_path: Path) -> None:
    values = np.array([-1, -0.5, 0, 0.5, 1])
    save(tmp_path / "a.wav", values)
    source = qc.data.wav([tmp_path / "a.wav"], sample_rate=8000, channels=2)
    (sample,) = source
    np.testing.assert_array_equal(sample["audio"][0, 0], sample["audio"][0, 1])
    spec = InputSpec("x", np.dtype("int16"), (1, None))
    (whole,) = load_samples(qc.data.wav(tmp_path, sample_rate=8000), [spec])
    np.testing.assert_array_equal(whole["x"][0], np.rint(values * 32767))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its content is not WAV"),
        (b"ID3 no wave here at all", "its content is not WAV"),
        ("cut", "cut off or damaged"),
        ("header", "cut off or damaged"),
        ("adpcm", "values are of kind 2 with 4 bits"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.wav"
    save(path, np.zeros(100))
    whole = path.read_bytes()
    if content == "adpcm":
        write_form(path, 2, 4, b"\0" * 10)
    else:
        path.write_bytes(
            {"cut": whole[:-9], "header": whole[:30]}.get(content, content)
        )
    source = qc.data.wav(tmp_path, sample_rate=8000)
    with pytest.raises(
        qc.CalibrationError, match=rf"bad\.wav: .*{message}.*save it again"
    ):
        list(source)


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "message"),
    [
        ((1, 10), F32, {"length": 5}, "10 frames, but length .--length. is 5"),
        ((1, 2, 10), F32, {"channels": 1}, "2 channels, but channels"),
        ((4, None), F32, {}, "4 pieces of equal length. Give length"),
        ((1, 80, 300), F32, {}, "which is not audio.*spectra"),
        ((1, 10), np.dtype("int64"), {}, "which is not audio"),
        ((3, 2, 10), F32, {}, "3 pieces at a time, and there are 1"),
    ],
)
def test_options_that_do_not_fit_the_model_say_what_it_wants(
    shape: Any, dtype: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save(tmp_path / "a.wav", np.zeros((12, 2)))
    source = qc.data.wav(tmp_path, sample_rate=8000, **options)
    with pytest.raises(qc.CalibrationError, match=message):
        load_samples(source, [InputSpec("x", dtype, shape)])


def test_other_inputs_get_constants(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", np.zeros(12))
    specs = [
        InputSpec("input", F32, (None, None)),
        InputSpec("state", F32, (2, None, 128)),
        InputSpec("sr", np.dtype("int64"), ()),
    ]
    with pytest.raises(qc.CalibrationError, match=r"'state'.*--constant NAME=NUMBER"):
        load_samples(qc.data.wav(tmp_path, sample_rate=16000), specs)
    source = qc.data.wav(
        tmp_path, sample_rate=16000, constants={"sr": 16000, "state": 0}
    )
    (sample,) = load_samples(source, specs)
    assert sample["state"].shape == (2, 1, 128)
    assert sample["sr"] == 16000
    assert sample["input"].shape == (1, 24)  # twice the rate of the file


def test_what_cannot_be_read_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    message = r"1 other file \(\.mp3\), but not a WAV file"
    with pytest.raises(qc.CalibrationError, match=message):
        qc.data.wav(tmp_path, sample_rate=8000)
    with pytest.raises(qc.CalibrationError, match="sample_rate is None"):
        qc.data.wav(tmp_path, sample_rate=None)  # type: ignore[arg-type]
    with pytest.raises(qc.CalibrationError, match="The WAV files are"):
        qc.data.wav([], sample_rate=8000)
    save(tmp_path / "empty.wav", np.zeros(0))
    with pytest.raises(qc.CalibrationError, match="they are empty"):
        list(qc.data.wav(tmp_path, sample_rate=8000))
