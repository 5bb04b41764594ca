"""Samples of texts, beside the tokenizer itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import quantcal as qc
from quantcal.onnx import InputSpec, load_samples

I64, I32, F32 = (np.dtype(name) for name in ("int64", "int32", "float32"))
WORDS = ["[PAD]", "[CLS]", "[SEP]", "a", "b", "c", "d"]
LINES = ["a b c", "", "  ", "d", "a a a a a a a a"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Write a tokenizer of words that adds [CLS] and [SEP], and pads to 5 by itself."""
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[PAD]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.enable_padding(length=5)
    made.enable_truncation(4)
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\ufeff" + "\r\n".join(LINES) + "\r\n", "utf-8")
    return path


def specs(shape: Any = (None, None), dtype: Any = I64) -> list[InputSpec]:
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    return [InputSpec(name, dtype, shape) for name in names]


def test_each_line_is_a_sample_of_its_own_length(lines: Path, tokenizer: Path) -> None:
    source = qc.data.texts(lines, tokenizer)
    found = list(load_samples(source, specs()))
    assert [s["input_ids"].tolist() for s in found] == [
        [[1, 3, 4, 5, 2]],
        [[1, 6, 2]],
        [[1, *[3] * 8, 2]],
    ]
    for sample in found:
        length = sample["input_ids"].shape[1]
        assert sample["attention_mask"].tolist() == [[1] * length]
        assert sample["token_type_ids"].tolist() == [[0] * length]
        assert sample["position_ids"].tolist() == [list(range(length))]
    assert len(source) == 3
    assert "3 texts" in repr(source)
    assert set(source.files) == {lines, tokenizer}


def test_texts_are_cut_and_filled_as_the_model_fixes(
    lines: Path, tokenizer: Path
) -> None:
    (cut,) = load_samples(qc.data.texts(["a " * 9], tokenizer, length=4), specs())
    assert cut["input_ids"].tolist() == [[1, 3, 3, 2]]
    found = list(load_samples(qc.data.texts(lines, tokenizer), specs((1, 6), I32)))
    assert [s["input_ids"].tolist() for s in found] == [
        [[1, 3, 4, 5, 2, 0]],
        [[1, 6, 2, 0, 0, 0]],
        [[1, 3, 3, 3, 3, 2]],
    ]
    assert found[1]["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0]]
    assert found[1]["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert all(array.dtype == I32 for array in found[0].values())


def test_a_fixed_batch_is_filled_to_its_longest_text(tokenizer: Path) -> None:
    texts = ["a", "a b c", "d d", "c", "b"]
    with pytest.warns(UserWarning, match="2 texts at a time: the last 1 of 5"):
        samples = load_samples(qc.data.texts(texts, tokenizer), specs((2, None)))
    first, second = samples
    assert first["input_ids"].tolist() == [[1, 3, 2, 0, 0], [1, 3, 4, 5, 2]]
    assert first["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert second["input_ids"].shape == (2, 4)


def test_a_length_below_the_special_tokens_is_refused(tokenizer: Path) -> None:
    source = qc.data.texts(["a b"], tokenizer, length=1)
    with pytest.raises(qc.CalibrationError, match="length is 1, less than the special"):
        list(source)


def test_padding_is_on_the_side_of_the_tokenizer(tokenizer: Path) -> None:
    made = Tokenizer.from_file(str(tokenizer))
    made.enable_padding(direction="left", pad_id=6, pad_type_id=1)
    made.save(str(tokenizer))
    source = qc.data.texts(["b"], tokenizer)
    (sample,) = load_samples(source, specs((1, 5)))
    assert sample["input_ids"].tolist() == [[6, 6, 1, 4, 2]]
    assert sample["attention_mask"].tolist() == [[0, 0, 1, 1, 1]]
    assert sample["token_type_ids"].tolist() == [[1, 1, 0, 0, 0]]
    assert sample["position_ids"].tolist() == [[0, 0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (("input_ids",), "ids"),
        (("tokens:0", "input_mask:0", "segment_ids:0"), "ids"),
        (("ids", "mask"), "ids"),
    ],
)
def test_inputs_are_known_by_their_names(
    names: tuple[str, ...], role: str, tokenizer: Path
) -> None:
    inputs = [InputSpec(name, I64, (1, None)) for name in names]
    (sample,) = load_samples(qc.data.texts(["a b"], tokenizer), inputs)
    assert tuple(sample) == names
    assert sample[names[0]].tolist() == [[1, 3, 4, 2]]
    assert [sample[n].tolist() for n in names[1:]] == [[[1] * 4], [[0] * 4]][
        : len(names) - 1
    ]


def test_a_mask_may_be_of_floats_or_bools(tokenizer: Path) -> None:
    for dtype in (F32, np.dtype("bool")):
        mask = InputSpec("attention_mask", dtype, (1, None))
        inputs = [InputSpec("input_ids", I64, (1, None)), mask]
        (sample,) = load_samples(qc.data.texts(["a"], tokenizer), inputs)
        assert sample["attention_mask"].dtype == dtype


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([("x", F32, (1, 3, 8, 8))], {}, r"not 'x'.*--constant x=NUMBER"),
        ([("attention_mask", I64, (1, 4))], {}, "none is for the numbers of tokens"),
        ([("input_ids", I64, (1, 4)), ("decoder_input_ids", I64, (1, 4))], {}, "but not 'decoder"),
        ([("input_ids", I64, (1, 4)), ("past.key", F32, (1, 2, 0, 8))], {}, "but not 'past.key'"),
        ([("input_ids", I64, (1, 4))], {"length": 8}, "takes 4 tokens, but length"),
        ([("input_ids", I64, (1, 4)), ("mask", I64, (1, 5))], {}, "different sizes"),
    ],
)  # fmt: skip
def test_other_models_are_refused_with_what_they_want(
    inputs: Any, options: dict[str, Any], message: str, tokenizer: Path
) -> None:
    source = qc.data.texts(["a"], tokenizer, **options)
    with pytest.raises(qc.CalibrationError, match=message):
        load_samples(source, [InputSpec(*spec) for spec in inputs])


def test_what_cannot_be_read_is_named(lines: Path, tokenizer: Path) -> None:
    folder = lines.parent
    broken = folder / "broken.json"
    broken.write_text("{}")
    (folder / "latin.txt").write_bytes("ä".encode("latin1"))
    (folder / "empty.txt").write_text("\n \n")
    for source, encoder, message in [
        (lines, folder / "none.json", r"none\.json does not exist"),
        (lines, broken, r"broken\.json is not a tokenizer\.json"),
        (folder, tokenizer, "is a folder. Give one file with one text a line"),
        (folder / "none.txt", tokenizer, r"Cannot read .*none\.txt: No such file"),
        (folder / "latin.txt", tokenizer, r"latin\.txt: .*Save it in UTF-8"),
        (folder / "empty.txt", tokenizer, r"empty\.txt holds no text"),
        ([], tokenizer, "no text in the list"),
        ([1], tokenizer, "Text 0 is a int"),
    ]:
        with pytest.raises(qc.CalibrationError, match=message):
            qc.data.texts(source, encoder)
    assert len(qc.data.texts(lines, folder)) == 3  # the folder of the tokenizer
    assert len(qc.data.texts(lines, folder, max_samples=2)) == 2
