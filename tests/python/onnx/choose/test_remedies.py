"""What `advise` tries on a whole model, against losses of models that `quantize` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import correction_models as corrections
import onnx_models as models
import planted_models as planted
import quantcal as qc
from quantcal.advice.result import Advice, Remedy
from quantcal.onnx._choose import model_remedies
from quantcal.onnx._trial.judge import Judge
from quantcal.onnx._trial.trial_session import TrialSession

NORM = planted.uneven_norm(rank=2)
ROWS = planted.feeds(24, rows=8)
IMAGES = corrections.images(24)


def advise(model: Any, samples: Any, **options: Any) -> Advice:
    options = {"strategy": "minmax", "progress": False, **options}
    return qc.onnx.advise(model, samples, **options)


def by_name(advice: Advice) -> dict[str, Remedy]:
    return {each.name: each for each in advice.remedies}


def written_loss(
    folder: Path, model: Any, samples: Any, fresh: Any, **options: Any
) -> float:
    """The loss of a written model on samples that it does not know."""
    path = folder / "q.onnx"
    options = {"strategy": "minmax", "reduce_range": False, **options}
    qc.onnx.quantize(model, path, samples, progress=False, **options)
    judge = Judge(["y"])
    for feed in fresh:
        judge.add(models.outputs(model, feed, ["y"]))
    judge.settle()
    session = models.session(str(path), exact=True)
    damage = [judge.damage(i, session.run(["y"], f)) for i, f in enumerate(fresh)]
    return judge.loss(np.array(damage), range(len(fresh)))


@pytest.mark.parametrize(
    ("name", "model", "samples", "fresh"),
    [
        ("smooth", NORM, ROWS, planted.feeds(24, seed=7, rows=8)),
        (
            "equalize",
            corrections.conv_pair(),
            IMAGES,
            corrections.images(24, seed=90),
        ),
    ],
)
def test_a_remedy_promises_what_the_written_model_keeps(
    name: str, model: Any, samples: Any, fresh: Any, tmp_path: Path
) -> None:
    advice = advise(model, samples, reduce_range=False)
    remedy = by_name(advice)[name]
    assert advice.remedies[0] == remedy
    assert f'corrections=["{name}"]' in remedy.text
    assert remedy.samples == 12
    assert remedy.before == advice.loss
    before = written_loss(tmp_path, model, samples, fresh)
    after = written_loss(tmp_path, model, samples, fresh, corrections=[name])
    # Other samples of the same kind. The ranges of three folds clip a little more than
    # those of all samples, so the promise is cautious: up to 2.5 times, and the gain is more.
    assert remedy.before == pytest.approx(before, rel=0.25)
    assert 0.8 * after < remedy.loss < 2.5 * after
    assert remedy.loss < 0.25 * remedy.before


def test_what_changes_nothing_is_no_remedy() -> None:
    tried = by_name(advise(NORM, ROWS))
    assert set(tried) == {"smooth", "bias", "per-tensor weights"}
    assert tried["per-tensor weights"].text == "per_channel=False"


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_other_scales_of_weights_are_tried(
    per_channel: bool, tmp_path: Path
) -> None:
    model = corrections.conv_pair()
    advice = advise(model, IMAGES, per_channel=per_channel, reduce_range=False)
    name = "per-tensor weights" if per_channel else "per-channel weights"
    remedy = by_name(advice)[name]
    assert (remedy.change > 0) == per_channel
    other = advise(model, IMAGES, per_channel=not per_channel, reduce_range=False)
    assert remedy.loss == other.loss
    assert remedy.before == advice.loss == by_name(other)[_other(name)].loss


def _other(name: str) -> str:
    words = {"tensor": "channel", "channel": "tensor"}
    kind = name.removeprefix("per-").removesuffix(" weights")
    return f"per-{words[kind]} weights"


def test_a_mean_error_is_taken_out_by_biases() -> None:
    """A weight of 4 bits has large errors, and a positive input gives them a mean."""
    rng = np.random.default_rng(0)
    samples = [
        {"x": rng.uniform(1, 2, (8, planted.WIDTH)).astype(np.float32)}
        for _ in range(12)
    ]
    model = planted.mlp(layers=1)
    advice = advise(model, samples, weight_type="int4", block_size=0)
    remedy = by_name(advice)["bias"]
    assert remedy.change < -0.9
    assert remedy.text.startswith('corrections=["bias"], 1 bias')


@pytest.mark.parametrize("given", [("smooth",), ("bias",), ("smooth", "bias")])
def test_corrections_that_are_asked_for_belong_to_the_base(
    given: tuple[str, ...],
) -> None:
    alone = advise(NORM, ROWS)
    advice = advise(NORM, ROWS, corrections=given)
    assert not {*given} & {*by_name(advice)}
    if given == ("bias",):
        # Both take their shifts from the samples that propose.
        assert advice.loss == by_name(alone)["bias"].loss
    else:
        assert advice.loss < 0.5 * alone.loss


def test_the_rest_of_many_samples_is_left_out_of_both_sides() -> None:
    """With more samples than are kept, both losses come from those that are."""
    many = planted.feeds(60, rows=8)
    advice = advise(NORM, many, most_samples=8)
    smooth, other = (by_name(advice)[n] for n in ("smooth", "per-tensor weights"))
    assert other.before == advice.loss
    assert smooth.before != advice.loss
    assert smooth.before == pytest.approx(advice.loss, rel=0.5)


def test_16_bits_are_not_tried_where_nodes_of_8_bits_would_clip_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the operators, a trial has QuantizeLinear nodes of the planned formats."""

    def names() -> set[str]:
        found = advise(planted.mlp(guilty=2), planted.feeds(8)).tensors[0].remedies
        return {each.name for each in found}

    real = TrialSession.__init__

    def plain(self: Any, *args: Any, **options: Any) -> None:
        real(self, *args, **options | {"operators": False})

    assert {"16 bits", "float"} <= names()
    monkeypatch.setattr(TrialSession, "__init__", plain)
    assert "16 bits" not in names()


def test_remedies_can_be_left_out() -> None:
    advice = advise(NORM, ROWS, remedies=False)
    assert advice.remedies == ()
    assert not any(tensor.remedies for tensor in advice.tensors)
    assert advice.exclude == advise(NORM, ROWS).exclude


def test_without_time_no_remedy_is_tried() -> None:
    advice = advise(NORM, ROWS, time_limit=0)
    assert advice.remedies == ()
    assert any("remedies for the whole model untried" in n for n in advice.notes)


def test_a_remedy_that_fails_is_named_and_the_others_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: Any) -> Any:
        raise qc.CalibrationError("no such luck")

    monkeypatch.setattr(model_remedies, "Corrections", failing)
    advice = advise(NORM, ROWS)
    assert set(by_name(advice)) == {"bias", "per-tensor weights"}
    assert sum("no such luck" in note for note in advice.notes) == 2


def test_the_summary_shows_both_losses() -> None:
    advice = advise(NORM, ROWS)
    (line,) = [x for x in advice.summary().splitlines() if "tried smooth" in x]
    assert line.startswith(f"tried smooth on all: loss {advice.loss:.3g} → ")
    content = advice.to_dict()["remedies"]
    assert content[0]["name"] == "smooth"
    assert content[0]["before"] == advice.loss


def test_times_are_measured_on_request() -> None:
    advice = advise(planted.mlp(layers=3), planted.feeds(8), times="measure")
    plain = advise(planted.mlp(layers=3), planted.feeds(8))
    more = set(advice.notes) - set(plain.notes)
    # Whether integers are faster depends on the machine.
    assert all("nodes faster on" in note for note in more)
    assert advice.exclude == plain.exclude


@pytest.mark.parametrize("given", [("smooth",), ("bias",)])
def test_tune_writes_the_corrected_model(
    given: tuple[str, ...], tmp_path: Path
) -> None:
    options: Any = {"strategy": "minmax", "progress": False}
    samples = planted.feeds(20, rows=8)
    made = tmp_path / "t.onnx"
    result = qc.onnx.tune(
        NORM,
        made,
        samples,
        times=planted.times(NORM),
        max_drop="100%",
        corrections=given,
        **options,
    )
    assert result.kept
    assert [each.name for each in result.written.corrections] == list(given)
    assert (result.samples_deciding, result.samples) == (16, 4)
    deciding = [feed for number, feed in enumerate(samples) if number % 5 != 4]
    other = tmp_path / "other.onnx"
    qc.onnx.quantize(NORM, other, deciding, corrections=given, **options)
    assert made.read_bytes() == other.read_bytes()
    exact = result.evaluation.outputs["y"]["exact"]
    # The trial took its shifts from half of the deciding samples, the file from all.
    assert result.drop == pytest.approx(10 ** (-exact.sqnr_db / 10), rel=0.5)


@pytest.mark.parametrize("once", [False, True])
def test_tune_corrects_the_biases_that_auto_corrects(
    once: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    samples = [
        {"x": rng.uniform(1, 2, (8, planted.WIDTH)).astype(np.float32)}
        for _ in range(20)
    ]
    model = planted.mlp(layers=1)
    result = qc.onnx.tune(
        model,
        tmp_path / "t.onnx",
        iter(samples) if once else samples,
        times=planted.times(model),
        max_drop="100%",
        strategy=qc.Auto(float_share=0),
        weight_type="int4",
        block_size=0,
        progress=False,
    )
    made = [each.name for each in result.written.corrections]
    assert made == ([] if once else ["bias"])


def test_tune_refuses_corrections_of_samples_that_are_read_once(tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match="can be read only once"):
        qc.onnx.tune(
            NORM, tmp_path / "t.onnx", iter(planted.feeds(20)), corrections=["smooth"]
        )
    assert not list(tmp_path.iterdir())


def test_the_model_is_not_changed() -> None:
    before = NORM.SerializeToString(deterministic=True)
    advise(NORM, ROWS[:8], corrections=("smooth",))
    assert NORM.SerializeToString(deterministic=True) == before
    assert isinstance(NORM, onnx.ModelProto)
