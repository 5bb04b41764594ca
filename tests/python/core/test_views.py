"""What notebooks, data frames and the prompt show of public objects."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

import quantcal as qc
from quantcal.report import sparkline

HOSTILE = "<script>&'\""


def calibrator() -> qc.Calibrator:
    x = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    cal = qc.Calibrator()
    cal.observe(HOSTILE, x)
    cal.observe("relu", np.maximum(x, 0))
    cal.observe("nothing", np.float32([np.nan, np.inf, -np.inf]))
    cal.observe("empty", np.float32([]))
    cal.observe("one", np.float32([2.5]))
    cal.observe("outlier", np.append(x, np.float32(3e38)))
    cal.observe("w", x.reshape(-1, 8), axis=1)
    return cal


CAL = calibrator()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # two tensors are empty
    TABLE = CAL.compute("mse")
    STABILITY = qc.check_stability(CAL, CAL)
COMPARISON = qc.compare(CAL, strategies=["mse", "kl"])

SHOWN: dict[str, Any] = {
    **{f"histogram {name}": CAL[name] for name in CAL},
    "calibrator": CAL,
    "no calibrator": qc.Calibrator(),
    "channels": CAL.channels("w"),
    "table": TABLE,
    "no table": qc.CalibrationTable({}),
    "params": TABLE["relu"],
    "params by channel": TABLE["w"],
    "report": TABLE.report["relu"],
    "policy": qc.Policy({HOSTILE: "mse", "*": qc.Hybrid(qc.MinMax(), qc.MSE(3))}),
    "comparison": COMPARISON,
    "one comparison": COMPARISON[HOSTILE],
    "score": COMPARISON[0],
    "stability": STABILITY,
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_notebooks_show_sound_html(shown: Any) -> None:
    html = shown._repr_html_()
    root = ET.fromstring(f"<div>{html}</div>")  # well formed
    assert "<script>" not in html
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {
        *("div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"),
        *("svg", "path", "text"),
    }
    # Fixed colors would be illegible in a dark or in a light notebook.
    assert "#" not in html.replace("&#", "")


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_the_prompt_shows_something_short_and_telling(shown: Any) -> None:
    text = repr(shown)
    assert "object at 0x" not in text
    assert len(text) < 3000
    if not isinstance(shown, (qc.Comparison, qc.Stability)):  # they print as tables
        assert text.startswith(type(shown).__name__)


def test_a_table_has_a_row_for_each_and_shows_its_figures() -> None:
    html = TABLE._repr_html_()
    rows = list(ET.fromstring(f"<div>{html}</div>").iter("tr"))
    assert len(rows) == len(TABLE) + 1
    cells = [["".join(cell.itertext()) for cell in row] for row in rows]
    names = [row[0] for row in cells[1:]]
    assert sorted(names) == sorted(TABLE)
    sqnr = [
        TABLE.report[name].sqnr_db for name in names if name not in ("empty", "nothing")
    ]
    assert sqnr == sorted(sqnr)


def test_the_picture_has_the_shape_of_the_values() -> None:
    counted = qc.Histogram().observe(np.float32([-3, -3, -3, -3, 0, 5]))
    svg = ET.fromstring(sparkline.large(counted))
    bars = next(iter(svg)).attrib["d"].split("M")[1:]
    assert len(bars) == 3
    places = [float(bar.split(" ")[0]) for bar in bars]
    tall = [-float(bar.split("v")[1].split("h")[0]) for bar in bars]
    assert places == sorted(places)
    assert places[0] == 0
    ratio = np.log1p(1) / np.log1p(4)
    np.testing.assert_allclose(tall, [92.9, 92.9 * ratio, 92.9 * ratio], atol=0.15)
    words = ["".join(text.itertext()) for text in svg if text.tag.endswith("text")]
    assert words == ["−3", "0", "5"]
    assert svg.attrib["aria-label"] == "distribution of 6 values from -3 to 5"


def test_many_tensors_are_cut_and_the_rest_is_counted() -> None:
    cal = qc.Calibrator()
    cal.observe_many({str(number): np.float32([number]) for number in range(70)})
    for shown in (cal, cal.compute("mse")):
        html = shown._repr_html_()
        assert html.count("<tr>") == 51
        assert html.endswith("<p>and 20 more</p>")


def test_records_hold_what_is_known() -> None:
    rows = {row["tensor"]: row for row in CAL.records()}
    assert list(rows) == CAL.names
    assert rows["relu"]["zeros"] == CAL["relu"].zeros
    assert rows["relu"]["std"] == CAL["relu"].std()
    assert rows["w"]["channels"] == 8
    assert rows["empty"]["min"] is None
    table = {row["tensor"]: row for row in TABLE.records()}
    assert table["relu"]["scale"] == TABLE["relu"].scale
    assert table["relu"]["sqnr_db"] == TABLE.report["relu"].sqnr_db
    assert table["w"]["scale"] == TABLE["w"].scale.tolist()
    channels = CAL.channels("w").records()
    assert [row["max"] for row in channels] == CAL.channels("w").max.tolist()
    halves = {row["tensor"]: row for row in STABILITY.records()}
    assert halves["relu"]["first_high"] == TABLE["relu"].high
    assert halves["empty"]["difference"] is None
    bare = qc.CalibrationTable({"x": TABLE["relu"]}).records()
    assert bare[0]["sqnr_db"] is None


RECORDS: dict[str, Any] = {
    "calibrator": CAL,
    "table": TABLE,
    "channels": CAL.channels("w"),
    "stability": STABILITY,
    "comparison": COMPARISON,
}


@pytest.mark.parametrize("shown", RECORDS.values(), ids=RECORDS)
def test_records_are_json_and_data_frames(shown: Any) -> None:
    pd = pytest.importorskip("pandas")
    rows = shown.records()
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    frame = shown.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == len(rows) == len(shown)
    assert set(frame.reset_index().columns) >= set(rows[0])


def test_nothing_becomes_an_empty_data_frame() -> None:
    pytest.importorskip("pandas")
    assert qc.Calibrator().to_pandas().empty
    assert qc.CalibrationTable({}).to_pandas().empty


def test_without_pandas_it_says_how_to_install_it() -> None:
    code = """
import sys
sys.modules["pandas"] = None
import quantcal as qc
try:
    qc.CalibrationTable({}).to_pandas()
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == (
        'to_pandas needs pandas. Install it with: pip install "quantcal[pandas]"'
    )
