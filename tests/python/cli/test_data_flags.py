"""Samples of images, WAV files and texts on the command line, and what errors advise."""

from __future__ import annotations

import shlex
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import onnx_models as models
import quantcal as qc
from cli_runs import call, save_model, unboxed


def save_photos(folder: Path) -> Path:
    photos = folder / "photos"
    photos.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    return photos


def save_reading_model(folder: Path, inputs: dict[str, tuple[int, list[Any]]]) -> Path:
    """Write a model whose only work is on its first input."""
    values = [helper.make_tensor_value_info(n, *spec) for n, spec in inputs.items()]
    first = next(iter(inputs))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Cast", [first], ["c"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["c"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", values, [output])
    path = folder / "reading.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def advised(done: Any) -> list[str]:
    """Return the line that an error advises, as the arguments behind `quantcal`."""
    assert done.code == 1, done
    line = next(row for row in done.err.splitlines() if row.startswith("  quantcal "))
    return shlex.split(line)[1:]


IMAGE_FLAGS = ("--image-size", "16", "--mean", "0.5,0.4,0.3", "--std", "0.2")


@pytest.mark.parametrize("command", ["observe", "quantize", "advise", "tune"])
def test_every_command_with_samples_takes_the_flags(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    def take(*arguments: Any, **_: Any) -> Any:
        taken.extend(arguments)
        raise qc.CalibrationError("enough")

    name = "load_samples" if command == "observe" else command
    monkeypatch.setattr(qc.onnx, name, take)
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    out = (
        ("-o", tmp_path / "out.toml") if command == "advise" else ("-o", tmp_path / "o")
    )
    done = call(command, model, *out, "--samples", photos, *IMAGE_FLAGS)
    assert done.error_text() == "enough"
    (source,) = [each for each in taken if isinstance(each, qc.data.ImageSource)]
    assert len(source) == 3


def test_evaluate_and_times_take_the_flags(tmp_path: Path) -> None:
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    output = tmp_path / "q.onnx"
    data = ("--data", photos, *IMAGE_FLAGS)
    done = call(
        "quantize", model, "-o", output, *data, "-s", "minmax", "--max-samples", 2
    )
    assert done.code == 0, done.err
    assert done.facts["samples"] == "2"
    done = call("evaluate", model, output, *data)
    assert done.code == 0, done.err
    assert done.facts["samples"] == "3"
    done = call("times", model, output, *data, "--rounds", 3, "--max-samples", 1)
    assert done.code == 0, done.err


def test_flags_give_what_the_function_gives(tmp_path: Path) -> None:
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    flags = "--image-size 12x16 --mean 0.5,0.4,0.3 --std 0.2 --layout nchw --color bgr"
    more = "--fit crop --resize 20 --divide-by 200 --max-samples 2"
    stats = tmp_path / "s.qcal"
    line = ["observe", model, "-o", stats, "--samples", photos]
    assert call(*line, *flags.split(), *more.split()).code == 0
    source = qc.data.images(
        photos,
        (12, 16),
        mean=(0.5, 0.4, 0.3),
        std=0.2,
        layout="nchw",
        color="bgr",
        resize=20,
        divide_by=200,
        max_samples=2,
    )
    wanted = qc.onnx.observe(model, source)
    found = qc.load(stats)
    assert {n: found[n].to_bytes() for n in found.names} == {
        n: wanted[n].to_bytes() for n in wanted.names
    }


def test_the_advised_line_reads_the_images(tmp_path: Path) -> None:
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    output = tmp_path / "with space.onnx"
    line = ["quantize", model, "-o", output, "-s", "minmax"]
    done = call(*line, f"--samples={photos}")
    assert (
        "holds no .npz or .npy file, but 3 images. The model wants 'x' float32"
        in done.err
    )
    assert "[N, 3, ?, ?]. This reads it:\n" in done.err
    assert "Mean and std are those of ImageNet" in done.err
    arguments = advised(done)
    assert arguments[:6] == [*map(str, line)]
    assert arguments[7:9] == ["--image-size", "224"]
    assert call(*arguments).code == 0
    assert output.exists()


def test_the_advised_line_reads_wav_files(tmp_path: Path) -> None:
    model = save_reading_model(
        tmp_path,
        {"audio": (TensorProto.FLOAT, [1, 400]), "sr": (TensorProto.INT64, [])},
    )
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    with wave.open(str(sounds / "a.wav"), "wb") as file:
        file.setparams((1, 2, 11025, 0, "NONE", ""))
        file.writeframes(bytes(2 * 900))
    done = call(
        "observe", model, "-o", tmp_path / "s", "--data", sounds, "--all-tensors"
    )
    arguments = advised(done)
    assert arguments[-4:] == ["--sample-rate", "11025", "--constant", "sr=0"]
    done = call(*arguments)
    assert done.code == 0, done.err
    assert done.facts["samples"] == "2"


def test_the_advised_line_reads_texts(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    ids = (TensorProto.INT64, [None, None])
    model = save_reading_model(tmp_path, {"input_ids": ids, "attention_mask": ids})
    texts = tmp_path / "corpus" / "texts.txt"
    texts.parent.mkdir()
    texts.write_text("a b\nb\n")
    vocabulary = tokenizers.models.WordLevel({"?": 0, "a": 1, "b": 2}, "?")
    tokenizers.Tokenizer(vocabulary).save(str(texts.parent / "tokenizer.json"))
    for given in (texts, texts.parent):
        line = (
            "observe",
            model,
            "-o",
            tmp_path / "s",
            "--all-tensors",
            "--data",
            given,
        )
        arguments = advised(call(*line))
        assert arguments[-5:-1] == [
            str(texts),
            "--tokenizer",
            arguments[-3],
            "--length",
        ]
        done = call(*arguments)
        assert done.code == 0, done.err
        assert done.facts["samples"] == "2"


@pytest.mark.parametrize(
    ("inputs", "message", "line"),
    [
        (
            {"images": (TensorProto.FLOAT, [None, 3, 96, 128])},
            "'images' float32 [N, 3, 96, 128]. This reads a folder of images:",
            "--data photos/ --image-size 96,128",
        ),
        (
            {"pixels": (TensorProto.UINT8, [1, 96, 96, 3])},
            "'pixels' uint8 [1, 96, 96, 3]",
            "--data photos/ --image-size 96 --layout nhwc",
        ),
        (
            {"input_ids": (TensorProto.INT64, [1, 64])},
            "This reads a file with one text a line",
            "--data texts.txt --tokenizer tokenizer.json",
        ),
        (
            {"waveform": (TensorProto.FLOAT, [1, None])},
            "This reads a folder of WAV files",
            "--data audio/ --sample-rate 16000",
        ),
    ],
)
def test_a_path_without_samples_says_what_the_model_wants(
    inputs: Any, message: str, line: str, tmp_path: Path
) -> None:
    model = save_reading_model(tmp_path, inputs)
    (tmp_path / "data.csv").touch()
    output = tmp_path / "s.qcal"
    done = call("observe", model, "-o", output, "--data", tmp_path / "data.csv")
    assert "data.csv is neither a .npz nor a .npy file. The model wants" in done.err
    assert message in done.err
    assert line in done.err


def test_a_model_of_tables_is_not_advised_any_reader(tmp_path: Path) -> None:
    model = save_reading_model(tmp_path, {"x": (TensorProto.FLOAT, [None, 30])})
    done = call("observe", model, "-o", tmp_path / "s", "--data", save_photos(tmp_path))
    text = done.error_text()
    assert "The model wants 'x' float32 [N, 30]. Other files need code" in text
    assert "python:module:callable" in text


def test_arrays_below_a_folder_are_pointed_at(tmp_path: Path) -> None:
    arrays = tmp_path / "all" / "train"
    arrays.mkdir(parents=True)
    np.savez(arrays / "0.npz", x=models.random(1, 3, 8, 8))
    line = ("observe", save_model(tmp_path), "-o", tmp_path / "s", "--data")
    message = call(*line, tmp_path / "all").error_text()
    assert message.endswith(f"Give a folder below it that does, such as {arrays}.")
    assert call(*line, arrays).code == 0


def test_a_missing_path_says_what_the_model_wants(tmp_path: Path) -> None:
    done = call("observe", save_model(tmp_path), "-o", tmp_path / "s", "--data", "none")
    assert "none does not exist. Give" in done.error_text()
    assert "The model wants 'x' float32 [N, 3, ?, ?]." in done.error_text()
    done = call(
        "observe",
        save_model(tmp_path),
        "-o",
        tmp_path / "s",
        "--data",
        "none",
        *IMAGE_FLAGS,
    )
    assert (
        "none does not exist. Give an image or a folder of them." in done.error_text()
    )


def test_missing_names_show_how_to_save_a_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", z=models.random(1, 3, 8, 8))
    model, output = save_model(tmp_path), tmp_path / "s.qcal"
    done = call("observe", model, "-o", output, "--data", tmp_path / "0.npz")
    assert 'Save each sample with these names: np.savez("0.npz", x=…).' in done.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--image-size big", "'--image-size': 'big' is not 224 or 480,640"),
        ("--mean a,b", "'--mean': 'a,b' is not 0.485,0.456,0.406"),
        ("--image-size 8 --constant x", "'--constant': 'x' is not NAME=NUMBER"),
        ("--image-size 8 --constant =3", "'--constant': '=3' is not NAME=NUMBER"),
        ("--image-size 8 --sample-rate 8000", "'--image-size': It is not for wav"),
        ("--length 8", "'--length': It is for images (give --image-size too)"),
        ("--tokenizer t.json --fit pad", "'--fit': It is not for texts"),
    ],
)
def test_flags_that_do_not_go_together_are_wrong_usage(
    flags: str, message: str, tmp_path: Path
) -> None:
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    output = tmp_path / "s.qcal"
    done = call("observe", model, "-o", output, "--samples", photos, *flags.split())
    assert done.code == 2
    assert message in unboxed(done.err)


def test_flags_without_effect_are_refused(tmp_path: Path) -> None:
    model, output = save_model(tmp_path), tmp_path / "q.onnx"
    line = ["quantize", model, "-o", output]
    done = call(*line, "--samples", "python:a:b", "--image-size", 8)
    assert "code makes the samples. Leave it out" in unboxed(done.err)
    done = call(*line, "--activation-type", "none", "--image-size", 8)
    assert "no sample runs. Leave it out" in unboxed(done.err)


def test_an_image_that_is_read_is_not_overwritten(tmp_path: Path) -> None:
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    before = (photos / "0.png").read_bytes()
    output = photos / "0.png"
    done = call("observe", model, "-o", output, "--data", photos, *IMAGE_FLAGS)
    assert "is an input, which would be lost" in done.error_text()
    assert output.read_bytes() == before


def test_what_is_left_out_is_a_warning_of_the_command(tmp_path: Path) -> None:
    net = models.conv_net()
    net.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    model, photos = save_model(tmp_path, net), save_photos(tmp_path)
    output = tmp_path / "s.qcal"
    done = call("observe", model, "-o", output, "--data", photos, *IMAGE_FLAGS)
    assert done.code == 0
    assert done.facts["samples"] == "1"
    assert done.err == (
        "warning: The model takes 2 images at a time: the last 1 of 3 are left out.\n"
    )


def test_a_damaged_image_names_the_file_and_keeps_no_output(tmp_path: Path) -> None:
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    (photos / "1.png").write_bytes(b"damaged")
    output = tmp_path / "q.onnx"
    done = call("quantize", model, "-o", output, "--data", photos, *IMAGE_FLAGS)
    assert done.code == 1
    assert "1.png: its content is not an image" in done.err
    assert not output.exists()


def test_folders_of_classes_are_a_metric(tmp_path: Path) -> None:
    gray = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    weight = models.numpy_helper.from_array(
        np.array([[1.0, -1.0]] * 64, np.float32), "w"
    )
    bias = models.numpy_helper.from_array(np.float32([0, 64]), "b")
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [gray], [output], [weight, bias])
    opset = [helper.make_opsetid("", 17)]
    model = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), model)
    photos = tmp_path / "photos"
    # Bright images are class 0. One of four is in the wrong folder.
    for name, level in (("a/0", 250), ("a/1", 200), ("b/0", 10), ("b/1", 230)):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 12), level).save(photos / f"{name}.png")
    data = ("--data", photos, "--image-size", 8)
    quantized = tmp_path / "q.onnx"
    done = call("quantize", model, "-o", quantized, *data, "-s", "minmax")
    assert done.code == 0, done.err
    metric = ("--metric", "class-folders")
    done = call("evaluate", model, quantized, *data, *metric)
    assert done.code == 0, done.err
    assert "0.75 ±" in done.out
    plain = call("evaluate", model, quantized, "--data", tmp_path / "x.npz", *metric)
    assert plain.code == 2
    assert "class-folders is for images" in unboxed(plain.err)


def test_a_report_of_evaluate_replaces_no_image_and_no_weights(tmp_path: Path) -> None:
    model, photos = save_model(tmp_path), save_photos(tmp_path)
    other, weights = tmp_path / "other.onnx", tmp_path / "other.onnx_data"
    onnx.save_model(
        models.conv_net(),
        str(other),
        save_as_external_data=True,
        location=weights.name,
        size_threshold=0,
    )
    files = {file: file.read_bytes() for file in (photos / "1.png", weights)}
    for file, before in files.items():
        done = call(
            *("evaluate", model, other, "--samples", photos),
            *IMAGE_FLAGS,
            *("--report", file),
        )
        assert "is an input, which would be lost" in done.error_text()
        assert file.read_bytes() == before
