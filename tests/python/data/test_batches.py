"""Batches of loaders and rows of datasets are taken wherever samples are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import onnx_models as models
import quantcal as qc
from quantcal.onnx import InputSpec
from quantcal.onnx._runtime.samples import as_samples

F32, I64 = np.dtype("float32"), np.dtype("int64")
X = InputSpec("x", F32, (None, 3))
IDS = [InputSpec(name, I64, (None, None)) for name in ("input_ids", "attention_mask")]


@dataclass
class Loader:
    """What torch's DataLoader is to us."""

    batches: list[Any]
    dataset: Any = None
    batch_size: int = 2

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclass
class Rows:
    """What a dataset of Hugging Face is to us."""

    rows: list[dict[str, Any]]
    features: Any = field(default_factory=dict)

    @property
    def column_names(self) -> list[str]:
        return list(self.rows[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def arrays(samples: Any, name: str = "x") -> list[Any]:
    return [sample[name].tolist() for sample in samples]


def test_an_array_or_a_tuple_with_labels_is_the_only_input() -> None:
    a, b = models.random(2, 3), models.random(1, 3)
    plain = as_samples([{"x": a}, {"x": b}], [X])
    assert arrays(as_samples([a, b], [X])) == arrays(plain)
    labels = np.zeros(2)
    with pytest.warns(
        UserWarning, match="1 part of each sample behind .* as labels"
    ) as w:
        found = arrays(as_samples([(a, labels), [b, labels]], [X]))
    assert found == arrays(plain)
    assert len(w) == 1
    with pytest.warns(UserWarning, match="as labels"):
        assert arrays(as_samples([({"x": a}, labels)], [X])) == [a.tolist()]


def test_a_tuple_has_the_inputs_in_the_order_of_the_model() -> None:
    ids, mask = np.arange(4).reshape(1, 4), np.ones((1, 4), np.int64)
    (sample,) = as_samples([(ids, mask)], IDS)
    assert sample["input_ids"].tolist() == ids.tolist()
    assert sample["attention_mask"].tolist() == mask.tolist()
    with pytest.raises(qc.CalibrationError, match="is a tuple; expected a mapping"):
        list(as_samples([(ids,)], IDS))


def test_a_loader_gives_the_models_inputs_and_names_the_rest() -> None:
    ids = np.arange(6).reshape(2, 3)
    batch = {"input_ids": ids, "attention_mask": ids, "labels": ids[0], "idx": ids[0]}
    with pytest.warns(UserWarning, match="Left out: idx, labels, as the model has no"):
        (sample,) = as_samples(Loader([batch]), IDS)
    assert sorted(sample) == ["attention_mask", "input_ids"]
    with pytest.raises(qc.CalibrationError, match="has no input 'attention_mask'"):
        list(as_samples(Loader([{"input_ids": ids}]), IDS))
    with pytest.raises(qc.CalibrationError, match=r"has no input 'x'.*np\.savez.*x=…"):
        list(as_samples(Loader([{"y": ids}]), [X]))
    with pytest.raises(
        qc.CalibrationError, match="'labels', 'idx', which is not an input"
    ):
        list(as_samples([batch], IDS))  # in a plain list it may be a mistake


def test_batches_are_split_where_the_model_fixes_smaller_ones() -> None:
    one = InputSpec("x", F32, (1, 3))
    a = models.random(4, 3)
    samples = as_samples(Loader([(a,), (a[:2],)]), [one])
    assert samples.count is None
    assert arrays(samples) == [[row.tolist()] for row in [*a, *a[:2]]]
    three = InputSpec("x", F32, (3, 3))
    with pytest.raises(
        qc.CalibrationError, match=r"shape \[4, 3\]; the model takes \[3"
    ):
        list(as_samples(Loader([(a,)]), [three]))


def test_rows_of_a_dataset_get_an_axis_of_batches_and_the_models_types() -> None:
    rows = Rows(
        [
            {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1], "label": 0},
            {"input_ids": [4, 5], "attention_mask": [1, 1], "label": 1},
        ]
    )
    found = list(as_samples(rows, IDS))
    assert arrays(found, "input_ids") == [[[1, 2, 3]], [[4, 5]]]
    assert found[0]["attention_mask"].dtype == I64
    both = [InputSpec(spec.name, I64, (2, None)) for spec in IDS]
    with pytest.raises(
        qc.CalibrationError, match=r"2 rows at a time.*different shapes"
    ):
        list(as_samples(rows, both))
    even = Rows([rows.rows[0]] * 5)
    with pytest.warns(UserWarning, match="Left out: the last 1 row"):
        groups = list(as_samples(even, both))
    assert arrays(groups, "input_ids") == [[[1, 2, 3]] * 2] * 2


def test_rows_with_a_batch_axis_keep_it() -> None:
    rows = Rows([{"x": np.ones((1, 3), np.float32)}, {"x": [1, 1, 1]}])
    assert arrays(as_samples(rows, [X])) == [[[1, 1, 1]]] * 2


def test_other_columns_say_which_reader_takes_them() -> None:
    from PIL import Image

    texts = Rows([{"text": "hello", "label": 1}])
    message = r"columns \['label', 'text'\].*qc\.data\.texts\(dataset\['text'\]"
    with pytest.raises(qc.CalibrationError, match=message):
        list(as_samples(texts, IDS))
    pictures = Rows([{"image": Image.new("RGB", (4, 4)), "label": 1}])
    with pytest.raises(
        qc.CalibrationError, match=r"qc\.data\.images\(dataset\['image'\]"
    ):
        list(as_samples(pictures, [X]))
    with pytest.raises(qc.CalibrationError, match="Rename a column"):
        list(as_samples(Rows([{"y": [1, 2, 3]}]), [X]))
    with pytest.raises(qc.CalibrationError, match=r"several datasets.*\['train'\]"):
        as_samples({"train": texts}, IDS)


def test_a_callable_may_return_a_loader_or_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "returned_sources.py").write_text(
        "import numpy as np, quantcal as qc\n"
        "def arrays(): return [np.ones((1, 3), np.float32)]\n"
        "def photos():\n"
        "    return qc.data.images([np.zeros((8, 8, 3), np.uint8)], 8)\n"
    )
    (sample,) = qc.onnx.load_samples("python:returned_sources:arrays", [X])
    assert sample["x"].tolist() == [[1, 1, 1]]
    spec = InputSpec("x", F32, (1, 3, 8, 8))
    (sample,) = qc.onnx.load_samples("python:returned_sources:photos", [spec])
    assert sample["x"].shape == (1, 3, 8, 8)


@pytest.mark.torch
class TestTorch:
    """With torch itself."""

    @pytest.fixture(autouse=True)
    def _torch(self) -> None:
        self.torch = pytest.importorskip("torch")

    def test_tensors_become_arrays(self) -> None:
        torch = self.torch
        tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
        grown = tensor.clone().requires_grad_()
        turned = tensor.T.contiguous().T
        for given in (tensor, grown, turned, grown * 1):
            assert arrays(as_samples([given], [X])) == [tensor.tolist()]
            assert arrays(as_samples([{"x": given}], [X])) == [tensor.tolist()]
        brain = InputSpec("x", np.dtype(ml_dtypes.bfloat16), (None, 3))
        (sample,) = as_samples([tensor.bfloat16()], [brain])
        assert sample["x"].dtype == ml_dtypes.bfloat16
        assert sample["x"].astype(np.float32).tolist() == tensor.tolist()
        with pytest.raises(
            qc.CalibrationError, match="dtype bfloat16; the model takes float32"
        ):
            list(as_samples([tensor.bfloat16()], [X]))

    def test_a_data_loader_is_read(self) -> None:
        from torch.utils.data import DataLoader, TensorDataset

        x = self.torch.arange(15, dtype=self.torch.float32).reshape(5, 3)
        dataset = TensorDataset(x, self.torch.zeros(5))
        with pytest.warns(UserWarning, match="as labels"):
            found = arrays(as_samples(DataLoader(dataset, batch_size=2), [X]))
        assert found == [x[:2].tolist(), x[2:4].tolist(), x[4:].tolist()]
        with pytest.raises(
            qc.CalibrationError, match=r"give torch\.utils\.data\.DataLoader"
        ):
            as_samples(dataset, [X])

    def test_a_model_is_quantized_with_a_loader_as_with_its_arrays(
        self, tmp_path: Path
    ) -> None:
        from torch.utils.data import DataLoader, TensorDataset

        model = models.conv_net()
        batches = [models.random(2, 3, 9, 12, seed=seed) for seed in range(4)]
        x = self.torch.from_numpy(np.concatenate(batches))
        loader = DataLoader(TensorDataset(x), batch_size=2)
        for name, samples in (("a", loader), ("b", [{"x": b} for b in batches])):
            qc.onnx.quantize(model, tmp_path / f"{name}.onnx", samples, strategy="mse")
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_dataset_of_hugging_face_is_read() -> None:
    datasets = pytest.importorskip("datasets")
    columns = {
        "input_ids": [[1, 2], [3, 4]],
        "attention_mask": [[1, 1]] * 2,
        "label": [0, 1],
    }
    rows = datasets.Dataset.from_dict(columns)
    for form in (None, "numpy", "torch"):
        found = as_samples(rows.with_format(form), IDS)
        assert arrays(found, "input_ids") == [[[1, 2]], [[3, 4]]]
    with pytest.raises(qc.CalibrationError, match="several datasets"):
        as_samples(datasets.DatasetDict(train=rows), IDS)
