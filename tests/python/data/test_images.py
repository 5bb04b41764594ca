"""Samples of images, beside plain code of Pillow and numpy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import quantcal as qc
from quantcal.onnx import InputSpec, load_samples

F32, U8 = np.dtype("float32"), np.dtype("uint8")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(height: int = 50, width: int = 70, seed: int = 0, bands: int = 3) -> Any:
    """Return smooth bytes, so that JPEG changes them little."""
    rng = np.random.default_rng(seed)
    shape = (4, 5, bands) if bands > 1 else (4, 5)
    small = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def only(samples: Any) -> Any:
    """Return the array of the only input of the only sample."""
    (sample,) = samples
    (array,) = sample.values()
    return array


def cropped(image: Any, side: int, shorter: int) -> Any:
    """Return the middle of an image whose shorter side was scaled: torchvision's rule."""
    width, height = image.size
    if width < height:
        scaled = shorter, int(shorter * height / width)
    else:
        scaled = int(shorter * width / height), shorter
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left = round((scaled[0] - side) / 2)
    top = round((scaled[1] - side) / 2)
    return np.asarray(image)[top : top + side, left : left + side]


@pytest.mark.parametrize(("height", "width"), [(50, 70), (70, 50), (33, 33), (9, 80)])
@pytest.mark.parametrize("shorter", [None, 40])
def test_the_shorter_side_is_scaled_and_the_middle_is_cut_out(
    height: int, width: int, shorter: int | None
) -> None:
    image = picture(height, width)
    source = qc.data.images([image], 32, mean=MEAN, std=STD, resize=shorter)
    pixels = cropped(image, 32, shorter or 32).astype(np.float32) / np.float32(255)
    wanted = (pixels - np.float32([*MEAN])) / np.float32([*STD])
    np.testing.assert_array_equal(only(source)[0], wanted.transpose(2, 0, 1))


def test_stretched_images_lose_nothing_and_padded_ones_have_gray() -> None:
    image = picture(30, 60)
    stretched = only(qc.data.images([image], 20, fit="stretch", divide_by=1))
    wanted = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(stretched[0].transpose(1, 2, 0), wanted)
    padded = only(qc.data.images([image], 20, fit="pad", divide_by=1))[0]
    inner = np.asarray(image.resize((20, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(padded[:, 5:15].transpose(1, 2, 0), inner)
    assert (padded[:, :5] == 114).all()
    assert (padded[:, 15:] == 114).all()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("color", ["rgb", "bgr", "gray", "rgba"])
def test_layouts_and_colors_are_as_asked(layout: str, color: str) -> None:
    image = picture(24, 24)
    array = only(qc.data.images([image], 24, layout=layout, color=color, divide_by=1))
    if layout == "nchw":
        array = array.transpose(0, 2, 3, 1)
    mode = {"bgr": "RGB", "gray": "L"}.get(color, color.upper())
    wanted = np.asarray(image.convert(mode)).reshape(24, 24, -1)
    wanted = wanted[..., ::-1] if color == "bgr" else wanted
    np.testing.assert_array_equal(array[0], wanted)


def test_a_model_says_name_size_layout_and_type() -> None:
    image = picture(24, 30)
    for dtype in (U8, F32, np.dtype("float16"), np.dtype("int64")):
        spec = InputSpec("pixels", dtype, (1, 20, 16, 3))
        sample = next(iter(load_samples(qc.data.images([image]), [spec])))
        assert sample["pixels"].dtype == dtype
        assert sample["pixels"].shape == (1, 20, 16, 3)
        top = 255 if dtype.kind in "iu" else 1
        assert 0.5 * top < sample["pixels"].max() <= top
    gray = InputSpec("g", F32, (None, 1, 28, 28))
    assert only(load_samples(qc.data.images([image]), [gray])).shape == (1, 1, 28, 28)


def test_a_fixed_batch_takes_so_many_images_and_names_what_is_left_out() -> None:
    source = qc.data.images([picture(seed=i) for i in range(7)], 16)
    spec = InputSpec("x", F32, (3, 3, 16, 16))
    with pytest.warns(
        UserWarning, match="3 images at a time: the last 1 of 7 are left"
    ):
        samples = load_samples(source, [spec])
    single = [sample["images"][0] for sample in source]
    assert len(samples) == 2
    for place, sample in enumerate(samples):
        np.testing.assert_array_equal(sample["x"], single[3 * place : 3 * place + 3])
    with pytest.raises(
        qc.CalibrationError, match=r"takes 8 images at a time.*there are 7"
    ):
        load_samples(source, [InputSpec("x", F32, (8, 3, 16, 16))])
    unbatched = load_samples(source, [InputSpec("x", F32, (3, 16, 16))])
    assert next(iter(unbatched))["x"].shape == (3, 16, 16)


def test_files_come_in_the_order_of_names_without_hidden_ones(tmp_path: Path) -> None:
    for number, name in enumerate(
        ["b/2.png", "a.JPG", "b/1.png", ".b.png", ".c/1.png"]
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        path = tmp_path / name
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path, "png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "b" / "again").symlink_to(tmp_path, target_is_directory=True)
    source = qc.data.images(tmp_path, 8, divide_by=1)
    names = [file.relative_to(tmp_path).as_posix() for file in source.files]
    assert names == ["a.JPG", "b/1.png", "b/2.png"]
    assert [sample["images"][0, 0, 0, 0] for sample in source] == [1, 2, 0]
    assert len(source) == 3
    assert "3 images" in repr(source)
    two = qc.data.images(tmp_path, 8, max_samples=2)
    assert [file.name for file in two.files] == ["a.JPG", "1.png"]


def test_the_orientation_of_a_camera_is_respected(tmp_path: Path) -> None:
    image = picture(20, 40)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        image.save(path, exif=exif)
        upright = ImageOps.exif_transpose(Image.open(path))
        wanted = np.asarray(upright.resize((16, 16), Image.Resampling.BILINEAR))
        found = only(qc.data.images(path, 16, fit="stretch", divide_by=1))
        np.testing.assert_array_equal(found[0].transpose(1, 2, 0), wanted)
    assert upright.size == (20, 40)  # the last one was turned


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_images_of_every_kind_become_rgb(mode: str, tmp_path: Path) -> None:
    gray = np.asarray(picture(16, 16, bands=1))
    if mode == "I;16":
        low = np.random.default_rng(0).integers(0, 256, gray.shape, np.uint16)
        image = Image.fromarray(gray.astype(np.uint16) * 256 + low)
        plain = Image.fromarray(gray)
    else:
        image = picture(16, 16).convert(mode)
        plain = image
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr") else "x.png")
    image.save(path)
    found = only(qc.data.images(path, 16, divide_by=1))[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(found, np.asarray(plain.convert("RGB")))


def test_transparency_in_a_palette_is_dropped(tmp_path: Path) -> None:
    image = picture(16, 16).quantize(16)
    image.save(tmp_path / "x.png", transparency=bytes(range(16)))
    found = only(qc.data.images(tmp_path, 16, divide_by=1))[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_image_is_named_with_what_to_do(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    picture(200, 200).save(path)
    content = path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}
    path.write_bytes(damaged[damage])
    source = qc.data.images(tmp_path, 16)
    message = (
        r"Cannot read the image .*bad\.jpg: .*Take it out of the folder, or save it"
    )
    with pytest.raises(qc.CalibrationError, match=message):
        list(source)


def test_a_folder_without_images_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match="is empty"):
        qc.data.images(tmp_path, 16)
    for name in ("a.npz", "b.npz", "c.wav", "d.csv", ".hidden.png"):
        (tmp_path / name).touch()
    message = r"1 WAV file, 2 array files and 1 other file \(\.csv\), but not an image"
    with pytest.raises(qc.CalibrationError, match=message):
        qc.data.images(tmp_path, 16)
    with pytest.raises(qc.CalibrationError, match="nothing does not exist"):
        qc.data.images(tmp_path / "nothing", 16)
    with pytest.raises(qc.CalibrationError, match="The images are none"):
        qc.data.images([], 16)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(qc.CalibrationError, match=r"Cannot read .*locked"):
        qc.data.images(tmp_path, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0.*whole number above 0"),
        ({"size": "big"}, "size is 'big'"),
        ({"mean": "x"}, "mean is 'x'. Give one number"),
        ({"mean": (1, 2)}, "mean is .1, 2."),
        ({"std": 0}, "std is 0. Give numbers above 0"),
        ({"mean": (123.7, 116.3, 103.5)}, "mean.*divided by 255 first.*--divide-by 1"),
        ({"std": 255}, "std is 255, but pixels are divided by 255 first"),
        ({"divide_by": -1}, "divide_by is -1"),
        ({"layout": "chw"}, "layout is 'chw'. Give nchw, nhwc"),
        ({"color": "hsv"}, "color is 'hsv'. Give rgb, bgr, gray, rgba"),
        ({"fit": "zoom"}, "fit is 'zoom'. Give crop, stretch, pad"),
        ({"resize": 8, "fit": "pad"}, "Leave one out"),
        ({"max_samples": 0}, "max_samples is 0"),
        ({"constants": 3}, "constants is a int"),
    ],
)
def test_wrong_options_say_what_is_right(options: dict[str, Any], message: str) -> None:
    with pytest.raises(qc.CalibrationError, match=message):
        qc.data.images([picture()], **{"size": 16, **options})


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "message"),
    [
        (
            (1, 3, 32, 32),
            F32,
            {"size": 16},
            "images of 32 × 32 pixels, but size.*16 × 16",
        ),
        ((1, 3, None, None), F32, {}, r"images of any size.*--image-size"),
        ((1, 3, 32, 3), F32, {}, "which axis has the channels: layout"),
        (
            (1, 3, None, None),
            F32,
            {"layout": "nhwc"},
            "its shape shows nchw, but layout",
        ),
        ((1, 3, 32, 32), F32, {"color": "gray"}, "3 channels, but gray has 1"),
        ((1, 3, 32, 32), F32, {"resize": 20}, "smaller than the crop of 32 × 32"),
        (
            (1, 1, 32, 32),
            F32,
            {"mean": (0, 0, 0)},
            "mean has 3 numbers, but gray has 1",
        ),
        ((1, 3, 32, 32), U8, {"mean": 0.5}, "whole numbers.*Leave out mean"),
        ((1, 3, 32, 32), np.dtype("int8"), {}, "int8 does not hold pixels"),
        ((1, 3, 32, 32), np.dtype("bool"), {}, "pixels are given as they are"),
        ((1, 10), F32, {}, "'x' float32 .1, 10., which is not an image"),
    ],
)
def test_options_that_do_not_fit_the_model_say_what_it_wants(
    shape: Any, dtype: Any, options: dict[str, Any], message: str
) -> None:
    source = qc.data.images([picture()], **options)
    with pytest.raises(qc.CalibrationError, match=message):
        load_samples(source, [InputSpec("x", dtype, shape)])


def test_other_inputs_get_constants() -> None:
    specs = [
        InputSpec("x", F32, (1, 3, 16, 16)),
        InputSpec("scale", F32, (None, 2)),
        InputSpec("extra", F32, (1,), required=False),
    ]
    images = [picture()]
    with pytest.raises(
        qc.CalibrationError, match=r"also wants 'scale'.*--constant scale"
    ):
        load_samples(qc.data.images(images), specs)
    with pytest.raises(qc.CalibrationError, match="'scala', which is not an input"):
        load_samples(qc.data.images(images, constants={"scale": 1, "scala": 1}), specs)
    source = qc.data.images(images, constants={"scale": 2})
    (sample,) = load_samples(source, specs)
    np.testing.assert_array_equal(sample["scale"], np.float32([[2, 2]]))
    source = qc.data.images(images, constants={"scale": [[1, 3]]})
    (sample,) = load_samples(source, specs)
    np.testing.assert_array_equal(sample["scale"], np.float32([[1, 3]]))


@pytest.mark.parametrize("value", [0.5, 300, -129, "a", [1.5], None])
def test_constants_that_the_type_does_not_hold_are_refused(value: Any) -> None:
    specs = [
        InputSpec("x", F32, (1, 3, 16, 16)),
        InputSpec("n", np.dtype(np.int8), (1,)),
    ]
    source = qc.data.images([picture()], constants={"n": value})
    with pytest.raises(qc.CalibrationError, match="for 'n', whose elements are int8"):
        load_samples(source, specs)


def test_folders_of_classes_are_labels(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/1.png", "cat/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture().save(tmp_path / name)
    source = qc.data.images(tmp_path, 8)
    assert source.classes == ("cat", "dog")
    assert source.labels == (0, 0, 1)
    right = {"y": np.float32([[0.2, 0.9]])}
    assert [source.is_right(i, {}, right) for i in range(3)] == [0, 0, 1]


def test_a_column_of_a_dataset_decodes_an_image_when_it_is_needed() -> None:
    class Column:
        decoded = 0

        def __len__(self) -> int:
            return 100

        def __getitem__(self, place: int) -> Any:
            if place >= len(self):
                raise IndexError
            self.decoded += 1
            return picture()

    column = Column()
    source = qc.data.images(column, 8)  # type: ignore[arg-type]
    assert column.decoded <= 2
    next(iter(source))
    assert column.decoded <= 4


def test_labels_are_for_one_image_at_a_time(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "1.png")
    source = qc.data.images(tmp_path, 8)
    (pair,) = load_samples(source, [InputSpec("x", F32, (2, 3, 8, 8))])
    with pytest.raises(qc.CalibrationError, match="one image at a time"):
        source.is_right(0, pair, {"y": np.float32([[1, 0], [0, 1]])})


def test_a_part_of_the_images_keeps_the_labels_of_all(tmp_path: Path) -> None:
    for name in ("ant", "bee", "cat", "dog"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "1.png")
    some = qc.data.images(tmp_path, 8, max_samples=2)
    assert [file.parent.name for file in some.files] == ["ant", "cat"]
    assert some.classes == ("ant", "bee", "cat", "dog")
    assert some.labels == (0, 2)
    picture().save(tmp_path / "stray.png")
    with pytest.raises(qc.CalibrationError, match="have no label"):
        _ = qc.data.images(tmp_path, 8).labels


def test_arrays_in_memory_are_bytes() -> None:
    array = np.asarray(picture(16, 16))
    found = only(qc.data.images([array], 16, divide_by=1))
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), array)
    gray = only(qc.data.images([array[..., :1]], 16, color="gray", divide_by=1))
    np.testing.assert_array_equal(gray[0, 0], array[..., 0])
    with pytest.raises(qc.CalibrationError, match=r"number 0.*array of float32"):
        list(qc.data.images([array.astype(np.float32)], 16))
