"""`Advice`: its summary, its order and its JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from quantcal.advice.diagnosis import Diagnosis
from quantcal.advice.result import Advice, GuiltyTensor, Remedy

MASSIVE = Diagnosis("massive activation", 900.0, "6 values above 1,000 hold the range")


def advice(**changes: Any) -> Advice:
    tensors = (
        GuiltyTensor("b", ("up",), 0.1, 0.2),
        GuiltyTensor(
            "a",
            ("down",),
            0.3,
            0.6,
            (MASSIVE,),
            (Remedy("float", 0.2, -0.6, 4), Remedy("16 bits", 0.21, 0.05, 4, "int16")),
        ),
    )
    content: dict[str, Any] = {
        "loss": 0.5,
        "loss_after": 0.06,
        "exclude": ("down", "up"),
        "tensors": tensors,
        "samples": 4,
        "float_share": {"tensors": 2 / 120, "weights": 0.012},
        "method": "KL per token, in nats",
        "notes": ("the search ended after 60 s",),
    }
    return Advice(**(content | changes))


def test_the_summary_says_what_to_do_and_why() -> None:
    assert advice().summary().splitlines() == [
        "leave these 2 nodes in float: −88 % of the loss: down, up",
        "loss 0.5 → 0.06 (KL per token, in nats), 4 samples",
        "in float: 1.67 % of the tensors, 1.20 % of the weights",
        "a: 60.0 % of the loss alone",
        "  massive activation: 6 values above 1,000 hold the range",
        "  tried float: −60 % of the loss",
        "  tried 16 bits: +5 % of the loss: int16",
        "b: 20.0 % of the loss alone",
        "note: the search ended after 60 s",
    ]


def test_one_name_and_none_have_their_own_words() -> None:
    one = advice(exclude=("down",), noun="module")
    assert str(one).startswith("leave this module in float: −88 % of the loss: down\n")
    none = advice(exclude=(), loss_after=0.5, notes=(), tensors=())
    assert none.summary().splitlines() == [
        "leave no node in float: it gains nothing on these samples",
        "loss 0.5 (KL per token, in nats), 4 samples",
    ]


def test_only_a_loss_that_vanishes_is_minus_100_percent() -> None:
    for after, text in ((0.0, "−100 %"), (0.0001, "−99.9 %"), (1.5, "+200 %")):
        assert f"float: {text} of the loss" in advice(loss_after=after).summary()


def test_long_lists_are_cut() -> None:
    names = tuple(f"n{i}" for i in range(12))
    tensors = tuple(GuiltyTensor(n, (n,), 0.1, 0.1) for n in names)
    text = advice(exclude=names, tensors=tensors).summary()
    assert "n6, n7 and 4 more" in text
    assert "and 4 tensors more" in text


def test_tensors_are_sorted_by_damage_and_equal_ones_keep_their_order() -> None:
    losses = {"a": 0.1, "b": 0.3, "c": 0.1, "d": math.nan}
    tensors = tuple(GuiltyTensor(n, (n,), x, x) for n, x in losses.items())
    assert [t.name for t in advice(tensors=tensors).tensors] == ["d", "b", "a", "c"]


def test_json_holds_everything_and_no_nan() -> None:
    content = advice(loss=0.0).to_dict()
    text = json.dumps(content, allow_nan=False)
    assert content["change"] is None
    assert json.loads(text) == content
    first = content["tensors"][0]
    assert first["diagnoses"][0]["figure"] == 900
    assert first["remedies"][1]["text"] == "int16"
    assert content["float_share"]["weights"] == 0.012
