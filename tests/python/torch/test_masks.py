"""`qc.torch.observe`: padding and first positions."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Failing, Masked, random, recorded  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def test_the_attention_mask_excludes_padding() -> None:
    model, x = Masked(), random(2, 5, 6)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    wanted = recorded(
        {"up": [torch.cat([x[0, :3], x[1]])], "head": [model.up(x)[:, 0]]}
    )
    for name, given in (("attention_mask", mask), ("padding_mask", mask == 0)):
        with qc.torch.observe(model, mask=name) as cal:
            model(x, **{name: given})
        assert cal == wanted
    with qc.torch.observe(model, mask="attention_mask") as positional:
        model(x, mask.bool())
    assert positional == wanted
    with qc.torch.observe(model, mask="attention_mask") as unmasked:
        model(x)
    assert unmasked == recorded({"up": [x], "head": [model.up(x)[:, 0]]})


def test_flattened_tokens_use_the_flattened_mask() -> None:
    class Flat(Masked):
        def forward(self, x: Any, attention_mask: Any = None) -> Any:
            return self.up(x.flatten(0, 1))

    model, x = Flat(), random(2, 3, 6)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    with qc.torch.observe(model, include="up", mask="attention_mask") as cal:
        model(x, attention_mask=mask)
    assert cal == recorded({"up": [x[mask.bool()]]})


def test_a_callable_masks_by_name() -> None:
    model, x = Failing(), random(4, 6)

    def mask(name: str, tensor: Any) -> Any:
        return tensor > 0 if name == "first" else None

    with qc.torch.observe(model, mask=mask) as cal:
        model(x)
    assert cal == recorded({"first": [x[x > 0]], "second": [model.first(x)]})


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(2, 5), TypeError, "is torch.float32, but it must be"),
        (
            torch.ones(2, 4, dtype=torch.bool),
            qc.CalibrationError,
            "a mask of \\[2, 4\\]",
        ),
        (
            torch.ones(2, 1, 5, 5, dtype=torch.bool),
            qc.CalibrationError,
            "only masks of",
        ),
        ([[1, 1]], TypeError, "is list"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: Any, error: Any, message: str) -> None:
    model = Masked()
    with (
        pytest.raises(error, match=message),
        qc.torch.observe(model, mask="attention_mask") as cal,
    ):
        model(random(2, 5, 6), attention_mask=mask)
    assert not cal.names


def test_first_positions_are_skipped_or_recorded_separately() -> None:
    model, x = nn.Linear(6, 6), random(2, 5, 6)
    with qc.torch.observe(model, skip_positions=2) as cal:
        model(x)
    assert cal == recorded({"Linear": [x[:, 2:]]})
    with qc.torch.observe(model, skip_positions=2, record_skipped=True) as cal:
        model(x)
        # The tokens of one sequence, without a batch axis.
        model(x[0])
    assert cal == recorded(
        {"Linear": [x[:, 2:], x[0, 2:]], "Linear:skipped": [x[:, :2], x[0, :2]]}
    )
    with qc.torch.observe(model, skip_positions=9) as cal:
        model(x)
    assert cal["Linear"].count == 0


def test_first_positions_are_counted_from_the_first_token_after_the_padding() -> None:
    model, x = Masked(), random(2, 4, 6)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    options = {"mask": "attention_mask", "skip_positions": 1, "record_skipped": True}
    with qc.torch.observe(model, include="up", **options) as cal:
        model(x, attention_mask=mask)
    kept, skipped = torch.cat([x[0, 3:], x[1, 1:3]]), torch.stack([x[0, 2], x[1, 0]])
    assert cal == recorded({"up": [kept], "up:skipped": [skipped]})


def test_padding_that_cannot_be_excluded_is_warned_of() -> None:
    model, x = Masked(), random(2, 5, 6)
    with (
        pytest.warns(UserWarning, match='"up" was recorded whole, padding included'),
        qc.torch.observe(model, include="up", mask="attention_mask") as cal,
    ):
        [model.up(x) for _ in range(2)]
    assert cal == recorded({"up": [x, x]})
