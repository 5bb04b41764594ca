"""The report as data and text: its figures, its safety, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
import report_sources as sources

pytest.importorskip("jinja2")

from quantcal.report.page.distributions import (
    OCTAVES,
    PER_OCTAVE,
    SPARKS,
    draw_buckets,
    draw_spark,
    error_curve,
    pool,
)
from quantcal.report.page.numbers import short
from quantcal.report.page.render import embed


def data_of(path: Path) -> dict[str, Any]:
    """Return the data that a page draws."""
    text = path.read_text("utf-8")
    found = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', text
    )
    assert len(found) == 1
    data: dict[str, Any] = json.loads(found[0])
    return data


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in data_of(path)["tensors"]}


# --- figures ---------------------------------------------------------------


def test_buckets_hold_each_value_where_it_lies() -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(5000) * rng.gamma(0.3, 1, 5000)).astype("f2")
    x[:70] = 0
    found = draw_buckets(qc.Histogram().observe(x))
    assert found is not None
    exact = x.astype("f8")
    top = np.abs(exact).max()
    assert found["top"] == pytest.approx(top, rel=1e-5)
    tiny = 0
    for side, sign in (("pos", 1), ("neg", -1)):
        own = sign * exact[sign * exact > 0]
        place = np.floor(PER_OCTAVE * np.log2(top / own) + 1e-9).astype(int)
        want = np.bincount(place[place < PER_OCTAVE * OCTAVES])
        assert found[side] == want.tolist()
        tiny += int((place >= PER_OCTAVE * OCTAVES).sum())
    assert (found["zero"], found["tiny"]) == (int((exact == 0).sum()), tiny)


def test_buckets_lose_no_value_at_any_resolution() -> None:
    x = np.random.default_rng(2).standard_cauchy(20_000).astype("f4")
    for bits in (3, 5, 8, 12):
        found = draw_buckets(qc.Histogram(bits).observe(x))
        assert found is not None
        whole = sum(found["pos"]) + sum(found["neg"]) + found["zero"] + found["tiny"]
        assert whole == x.size
        assert sum(found["pos"]) >= 0.99 * (x > 0).sum()


def test_a_sparkline_is_high_where_the_values_are() -> None:
    spark = draw_spark(qc.Histogram().observe(np.float32([0, 0, 0, 0, 1, 10])))
    assert len(spark) == SPARKS
    assert spark[0] == "9"
    assert spark[-1] != "0"
    assert set(spark[4:-1]) == {"0"}
    assert draw_spark(qc.Histogram()) == ""


@pytest.mark.parametrize("format", ["int8", "uint8", "uint4", "float8_e4m3fn"])
def test_the_curve_of_errors_is_that_of_the_arrays(format: str) -> None:
    x = np.random.default_rng(3).laplace(size=20_000).astype("f4")
    curve = error_curve(qc.Histogram().observe(x), qc.QuantFormat(format))
    assert curve is not None
    top = float(np.abs(x).max())
    for k in (0, 3, 8, 17):
        reach = top * 2 ** (-k / curve["steps"])
        ends = max(float(x.min()), -reach), min(float(x.max()), reach)
        params = qc.QuantParams.from_range(*ends, format=format)
        error = np.square(x.astype("f8") - params.fake_quantize(x)).sum()
        want = 10 * math.log10(np.square(x.astype("f8")).sum() / error)
        # The bins of the picture are 1.6 % wide.
        assert curve["sqnr"][k] == pytest.approx(want, abs=0.3)


def test_numbers_are_short_and_valid_json() -> None:
    values = [
        math.pi,
        math.inf,
        -math.inf,
        math.nan,
        None,
        3,
        1e-30,
        123456.7,
        np.float32(2),
    ]
    short_ones = [short(value) for value in values]
    assert short_ones == [3.142, "inf", "-inf", None, None, 3, 1e-30, 123500, 2]
    json.dumps(short_ones, allow_nan=False)


def test_groups_of_channels_keep_the_extremes() -> None:
    values = np.arange(1000, dtype="f4")
    values[7] = np.nan
    high, low = pool(values), pool(values, least=True)
    assert len(high) == len(low) == 250
    assert (high[0], low[0], high[1], low[1]) == (3, 0, 6, 4)


def test_the_table_has_the_figures_of_the_results(tmp_path: Path) -> None:
    given = sources.quantized(tmp_path)
    result, calibrator = given["result"], given["calibrator"]
    names = list(result.table)
    qc.write_report(tmp_path / "r.html", **given, evaluation=sources.evaluation(names))
    rows = rows_of(tmp_path / "r.html")
    for name, report in result.table.report.items():
        row, histogram = rows[name], calibrator[name]
        assert row["count"] == histogram.count
        assert row["p99_9"] == short(histogram.quantile(0.999))
        assert row["sqnr"] == short(report.sqnr_db)
        assert row["low"] == short(result.table[name].low)
        assert row["method"] == "mse"
        best = {each["name"]: each["sqnr"] for each in row["detail"]["methods"]}
        assert best["mse"] == row["sqnr"]
        assert max(best.values()) == best["mse"]
    assert rows[names[0]]["sens"] == 0.004
    assert rows[names[0]]["layer"] == 30
    assert next(row["op"] for row in rows.values()) == "input"


def test_the_chosen_range_is_drawn_whatever_chose_it(tmp_path: Path) -> None:
    calibrator = sources.calibrator(["a", "b"])
    calibrator.observe("rows", np.random.default_rng(0).random((90, 3), "f4"), axis=1)
    table = calibrator.compute({"a": "aciq", "rows": "mse", "*": "kl"})
    qc.write_report(tmp_path / "r.html", calibrator=calibrator, table=table)
    for name, row in rows_of(tmp_path / "r.html").items():
        drawn = {each["name"]: each for each in row["detail"]["methods"]}
        assert drawn[row["method"]]["low"] == short(np.min(table[name].low), 6)
        assert drawn[row["method"]]["sqnr"] == short(table.report[name].sqnr_db)
        assert {"minmax", "percentile_99.99"} <= set(drawn)
    compared = {each["name"] for each in data_of(tmp_path / "r.html")["ranges"]}
    assert "aciq" not in compared


def test_tensors_stand_in_the_order_of_the_graph(tmp_path: Path) -> None:
    given = sources.quantized(tmp_path)
    order = list(given["result"].table)
    turned = qc.Calibrator()
    for name in reversed(order):
        turned.observe(name, np.float32([1, 2]))
    qc.write_report(tmp_path / "r.html", model=given["model"], calibrator=turned)
    qc.write_report(tmp_path / "s.html", calibrator=turned)
    assert list(rows_of(tmp_path / "s.html")) == order[::-1]
    assert list(rows_of(tmp_path / "r.html")) == order


def test_weights_have_their_errors(tmp_path: Path) -> None:
    from onnx import numpy_helper

    given = sources.quantized(tmp_path)
    qc.write_report(tmp_path / "r.html", **given)
    import onnx

    graph = onnx.load(given["model"]).graph
    floats = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    weights = data_of(tmp_path / "r.html")["weights"]
    assert weights
    for weight in weights:
        values = floats[weight["name"]].astype("f8")
        assert weight["values"] == values.size
        # 8 bits a channel, to the nearest code: half a step at most, uniform in it.
        flat = np.abs(values.reshape(len(values), -1))
        noise = (flat.max(axis=1) / 127) ** 2 / 12
        want = 10 * math.log10(np.square(values).mean() / noise.mean())
        assert weight["sqnr"] == pytest.approx(want, abs=3)
        assert weight["op"] in ("Conv", "Gemm", "MatMul")


def test_any_single_source_makes_a_report(tmp_path: Path) -> None:
    given = sources.quantized(tmp_path)
    names = list(given["result"].table)
    alone: list[dict[str, Any]] = [
        {"calibrator": sources.odd_calibrator()},
        {"table": given["result"].table},
        {"quantized": given["result"].output},
        {"result": given["result"]},
        {"evaluation": sources.evaluation(names)},
        {"evaluation": sources.evaluation(names).to_dict()},
        {"advice": sources.advice(names[0])},
        {"advice": sources.advice(names[0]).to_dict()},
        {"tune": sources.tuning(names)},
        {"stability": given["result"].stability},
    ]
    for each in alone:
        qc.write_report(tmp_path / "r.html", **each)
        assert "What to do next" in (tmp_path / "r.html").read_text("utf-8"), each
    evaluated = sources.evaluation(names).to_dict()
    (tmp_path / "e.json").write_text(json.dumps(evaluated), "utf-8")
    qc.write_report(tmp_path / "r.html", evaluation=str(tmp_path / "e.json"))
    assert len(data_of(tmp_path / "r.html")["layers"]) == len(names)


def test_results_and_their_json_give_the_same_report(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name, turn in (
        ("a", lambda x: x),
        ("b", lambda x: json.loads(json.dumps(x.to_dict()))),
    ):
        qc.write_report(
            tmp_path / f"{name}.html",
            evaluation=turn(sources.evaluation(names)),
            advice=turn(sources.advice("a")),
            title="t",
        )
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    given = sources.quantized(tmp_path)
    for name in ("a", "b"):
        qc.write_report(tmp_path / f"{name}.html", **given)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_large_report_stays_small(tmp_path: Path) -> None:
    names = [
        f"/model/encoder/layer.{k}/attention/self/MatMul_output_0" for k in range(60)
    ]
    calibrator = sources.calibrator(names)
    calibrator.observe("rows", np.random.default_rng(0).random((9, 5000), "f4"), axis=1)
    qc.write_report(tmp_path / "r.html", calibrator=calibrator)
    # 500 such tensors stay below 5 MB.
    assert (tmp_path / "r.html").stat().st_size < 61 * 5e6 / 500


# --- words -----------------------------------------------------------------


def test_the_summary_says_what_was_done_what_it_costs_and_what_is_next(
    tmp_path: Path,
) -> None:
    given = sources.quantized(tmp_path)
    names = list(given["result"].table)
    qc.write_report(
        tmp_path / "r.html",
        **given,
        evaluation=sources.evaluation(names),
        advice=sources.advice(names[0]),
        tune=sources.tuning(names),
    )
    text = (tmp_path / "r.html").read_text("utf-8")
    for words in (
        "nodes on integers",
        "over 4 samples",
        "The model keeps its promise: it loses 0.004 (squared error) on 4 held-out samples",
        "2.50 times as fast",
        "Good: &#39;y&#39; SQNR 31.5 dB.",
        "Strategy mse: loss 1 %",
        "Leave 1 node in float (−80 % of the loss): Conv_0.",
        "--exclude Conv_0",
    ):
        assert words in text, words


def test_the_cost_of_the_whole_model_is_told(tmp_path: Path) -> None:
    given = sources.quantized(tmp_path)
    cost = qc.onnx.ModelCost(
        2_000_000,
        500_000,
        {},
        loss=0.02,
        loss_samples=8,
        float_latency=qc.onnx.Latency(3.0, 0.1),
        quantized_latency=qc.onnx.Latency(2.0, 0.1),
    )
    qc.write_report(tmp_path / "r.html", **given, cost=cost)
    text = (tmp_path / "r.html").read_text("utf-8")
    for words in (
        f"Expected loss: {cost.loss_verdict}, 2.00 % of the variance",
        "A sample takes 2 ms instead of 3 ms: 1.50 times as fast.",
        "<strong>25.0 %</strong>",
        "<strong>1.50×</strong>",
    ):
        assert words in text, words


def test_faults_are_named_in_what_to_do_next(tmp_path: Path) -> None:
    qc.write_report(tmp_path / "r.html", calibrator=sources.odd_calibrator())
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "Find out why 3 tensors held NaN or infinite values" in text
    assert "Give samples that reach 2 tensors without a finite value" in text
    rows = rows_of(tmp_path / "r.html")
    assert rows["nothing"]["verdict"] == "no data"
    assert rows["huge"]["nonfinite"] == 1
    assert rows["by channel"]["detail"]["channels"]["high"] == [8, 9, 10, 11]


# --- safety ----------------------------------------------------------------


def test_no_name_ends_the_script_or_begins_an_element(tmp_path: Path) -> None:
    names = [sources.HOSTILE, sources.ESCAPE, "<!--<script>", "{{ 7 * 191 }}"]
    qc.write_report(
        tmp_path / "r.html",
        calibrator=sources.calibrator(names),
        evaluation=sources.evaluation(names, sources.HOSTILE),
        advice=sources.advice(sources.ESCAPE, sources.HOSTILE),
        title=sources.ESCAPE,
    )
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "<img" not in text
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert "1337" not in text
    assert set(names) <= set(rows_of(tmp_path / "r.html"))


def test_embedded_data_survives_and_holds_no_markup() -> None:
    data = {"a": "</script><!-- & \u2028 é", "b": [1, None]}
    text = embed(data)
    assert not set("<>&") & set(text)
    assert json.loads(text) == data


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    qc.write_report(tmp_path / "r.html", **sources.quantized(tmp_path))
    text = (tmp_path / "r.html").read_text("utf-8")
    outside = re.findall(
        r'(?:src|href)="(?!#|data:)[^"]*"|url\(|@import|https?://[^"\s]*', text
    )
    assert set(outside) <= {"http://www.w3.org/2000/svg"}


# --- refusals --------------------------------------------------------------


def test_nothing_to_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match="nothing to report"):
        qc.write_report(tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "break_it"),
    [
        ("evaluation", lambda x: x["outputs"]["y"]["exact"].update(loss="large")),
        ("evaluation", lambda x: x.update(outputs=[1])),
        ("evaluation", lambda x: x["layers"][0].pop("own")),
        ("advice", lambda x: x["tensors"][0].update(nodes="all")),
        ("advice", lambda x: x["tensors"][0]["remedies"][0].pop("loss")),
        ("tune", lambda x: x["points"].append({})),
        ("tune", lambda x: x.pop("points")),
        ("tune", lambda x: x.update(evaluation=None)),
    ],
)
def test_broken_results_are_refused_by_name(
    kind: str, break_it: Any, tmp_path: Path
) -> None:
    made = {
        "evaluation": lambda: sources.evaluation(["a", "b"]).to_dict(),
        "advice": lambda: sources.advice("a").to_dict(),
        "tune": lambda: sources.tuning(["a"]),
    }
    content = made[kind]()
    break_it(content)
    with pytest.raises(qc.CalibrationError, match=rf"^(The )?{kind} "):
        qc.write_report(tmp_path / "r.html", **{kind: content})
    assert not list(tmp_path.iterdir())


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    given = sources.quantized(tmp_path)
    before = given["model"].read_bytes()
    for target in (given["model"], given["result"].output):
        with pytest.raises(
            qc.CalibrationError, match="is an input, which would be lost"
        ):
            qc.write_report(target, **given)
    assert given["model"].read_bytes() == before


def test_the_weights_of_a_model_are_never_replaced(tmp_path: Path) -> None:
    model, weights = tmp_path / "big.onnx", tmp_path / "big.onnx_data"
    onnx.save_model(
        models.conv_net(),
        str(model),
        save_as_external_data=True,
        location=weights.name,
        size_threshold=0,
    )
    before = weights.read_bytes()
    calibrator = qc.Calibrator()
    calibrator.observe("x", np.float32([1, 2]))
    for role in ("model", "quantized"):
        with pytest.raises(
            qc.CalibrationError, match="is an input, which would be lost"
        ):
            qc.write_report(weights, calibrator=calibrator, **{role: model})
    assert weights.read_bytes() == before
