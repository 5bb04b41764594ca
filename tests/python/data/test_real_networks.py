"""Real networks, quantized from photographs, speech and texts by the command line.

The same arrays as .npz, made by plain code, give the same bytes.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from cli_runs import call
from tests.models import MODELS
from tests.models.export import missing_packages, onnx_file
from tests.models.photographs import photograph_files

pytestmark = pytest.mark.model
HOW = ("-s", "minmax", "--no-save-config", "--no-check-stability")


def assert_same_bytes(
    model: Path, folder: Path, data: Path, feeds: list[dict[str, Any]], *flags: object
) -> None:
    """Quantize with the data and flags, and with the same arrays as files of numpy."""
    arrays = folder / "arrays"
    arrays.mkdir()
    for number, feed in enumerate(feeds):
        np.savez(arrays / f"{number:03}.npz", **feed)
    for name, given in (("a", (data, *flags)), ("b", (arrays,))):
        output = folder / f"{name}.onnx"
        done = call("quantize", model, "-o", output, *HOW, "--data", *given)
        assert done.code == 0, done.err
        assert done.facts["samples"] == str(len(feeds))
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


def test_a_folder_of_photographs(tmp_path: Path) -> None:
    if missing := missing_packages("mtcnn-onet"):
        pytest.skip(f"{missing} are not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    feeds = []
    for name, path in sorted(photograph_files().items())[:6]:
        Image.open(path).convert("RGB").save(photos / f"{name}.jpg", quality=92)
        image = Image.open(photos / f"{name}.jpg")
        width, height = image.size
        scale = 48 / min(width, height)
        wide = 48 if width <= height else int(48 * width / height)
        high = 48 if height <= width else int(48 * height / width)
        assert abs(wide - width * scale) < 1
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
        left, top = round((wide - 48) / 2), round((high - 48) / 2)
        pixels = np.asarray(image, np.float32)[top : top + 48, left : left + 48]
        values = (pixels - np.float32(127.5)) / np.float32(128)
        feeds.append({"image": values.transpose(2, 0, 1)[None]})
    flags = ("--divide-by", 1, "--mean", 127.5, "--std", 128)
    model = onnx_file("mtcnn-onet", tmp_path)
    assert_same_bytes(model, tmp_path, photos, feeds, *flags)


def test_a_file_of_texts(tmp_path: Path) -> None:
    if missing := missing_packages("minilm"):
        pytest.skip(f"{missing} are not installed")
    lines = [
        "The quick brown fox jumps over the lazy dog.",
        "A calibration is as good as its samples. " * 8,
        "Wie heißt das auf Deutsch?",
    ]
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(lines), "utf-8")
    file = MODELS["minilm-tokenizer"].fetch()
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(32)
    encoded = [tokenizer.encode(line) for line in lines]
    assert [len(each.ids) for each in encoded][1] == 32
    feeds = [
        {
            "tokens": np.array([each.ids], np.int64),
            "attention_mask": np.array([each.attention_mask], np.int64),
        }
        for each in encoded
    ]
    model = onnx_file("minilm", tmp_path)
    flags = ("--tokenizer", file, "--length", 32)
    assert_same_bytes(model, tmp_path, texts, feeds, *flags)


def test_a_folder_of_wav_files(tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    feeds = []
    for number in range(3):
        time = np.arange(16000) / 16000
        tone = 0.4 * np.sin(2 * np.pi * (110 + 90 * number) * time)
        whole = np.rint(tone * 32767).astype("<i2")
        with wave.open(str(sounds / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(whole.tobytes())
        limits = {"fmin": np.array(50, np.float32), "fmax": np.array(2000, np.float32)}
        audio = (whole / np.float32(32768)).astype(np.float32)
        feeds.append({"audio": audio[None], **limits})
    model = MODELS["swift-f0"].fetch()
    flags = ("--sample-rate", 16000, "--constant", "fmin=50", "--constant", "fmax=2e3")
    assert_same_bytes(model, tmp_path, sounds, feeds, *flags)
