"""The report in headless Chromium: it opens from disk, sorts, filters, chooses, and fits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import quantcal as qc
import report_sources as sources
from chromium import Opened, browser

pytest.importorskip("jinja2")

NAMES = [f"/encoder/layer.{k}/MatMul_output_0" for k in range(38)]
NAMES += [sources.HOSTILE, sources.ESCAPE]
PHONE, LAPTOP, DESKTOP = 390, 1280, 1920


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section, and names that hold HTML."""
    folder = tmp_path_factory.mktemp("report")
    given = sources.quantized(folder)
    calibrator = (
        given["calibrator"] + sources.calibrator(NAMES) + sources.odd_calibrator()
    )
    path = folder / "report.html"
    with pytest.warns(UserWarning, match="no finite value"):
        ranges = calibrator.compute("mse", format="uint8")
    qc.write_report(
        path,
        model=given["model"],
        calibrator=calibrator,
        table=qc.CalibrationTable({**ranges, **given["result"].table}),
        result=given["result"],
        evaluation=sources.evaluation(NAMES, sources.HOSTILE),
        advice=sources.advice(sources.HOSTILE, sources.ESCAPE),
        tune=sources.tuning(NAMES),
        title=sources.HOSTILE,
    )
    return path


@pytest.fixture
def opened(chromium: Any, report: Path) -> Iterator[Opened]:
    page = Opened(chromium, report, viewport={"width": LAPTOP, "height": 900})
    yield page
    page.context.close()
    assert page.faults == []


def sqnr_of(page: Opened) -> list[float]:
    """Return the shown SQNR in decibels, in order; those without one are left out."""
    column = page.page.locator("#tensor-table thead th").all_text_contents()
    place = column.index("SQNR")
    cells = page.page.locator(
        f"#tensor-table tbody tr > :nth-child({place + 1})"
    ).all_text_contents()
    return [float(c.removesuffix(" dB").replace("−", "-")) for c in cells if "dB" in c]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, LAPTOP, DESKTOP])
def test_it_opens_without_a_fault_and_nothing_overflows(
    chromium: Any, report: Path, width: int, scheme: str
) -> None:
    page = Opened(
        chromium, report, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert page.overflow() <= 0
    for name in ("layers", "methods", "tuning", "ranges", "distribution", "curve"):
        box = page.page.locator(f"#plot-{name} svg").bounding_box()
        assert box["height"] > 100, name
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= width, name
    page.page.set_viewport_size({"width": PHONE, "height": 800})
    page.page.wait_for_timeout(100)
    assert page.overflow() <= 0
    assert page.faults == []
    assert page.requests == [report.as_uri()]
    page.context.close()


def test_names_that_hold_html_stay_text(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert page.locator("h1").inner_text() == sources.HOSTILE
    assert {sources.HOSTILE, sources.ESCAPE} <= set(opened.names())
    for name in (sources.HOSTILE, sources.ESCAPE):
        page.get_by_role("rowheader", name=name, exact=True).first.click()
        assert page.locator("#detail h3").inner_text() == name
        assert page.evaluate("window.hacked") is None


def test_headings_sort_and_a_third_click_restores_the_order(opened: Opened) -> None:
    first = opened.names()
    assert [n for n in first if n in NAMES] == NAMES
    heading = opened.page.get_by_role("button", name="SQNR", exact=True).first
    cell = opened.page.locator("#tensor-table thead th[data-key=sqnr]")
    heading.click()
    assert cell.get_attribute("aria-sort") == "descending"
    falling = sqnr_of(opened)
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 10
    heading.click()
    assert cell.get_attribute("aria-sort") == "ascending"
    assert sqnr_of(opened) == sorted(falling)
    assert opened.names() != first
    heading.click()
    assert cell.get_attribute("aria-sort") is None
    assert opened.names() == first


def test_filters_leave_the_rows_that_match(opened: Opened) -> None:
    page = opened.page
    whole = len(opened.names())
    page.get_by_label("Filter tensors").fill("LAYER.1")
    assert opened.names() == [n for n in NAMES if "layer.1" in n]
    assert page.locator("#tensor-table .count").inner_text() == f"11 of {whole} rows"
    page.get_by_label("Filter tensors").fill("")
    page.get_by_label("Verdict").select_option("no data")
    assert opened.names() == ["nothing", "empty"]
    page.get_by_label("Filter tensors").fill("no such name")
    assert opened.names() == []
    assert page.locator("#tensor-table .empty").is_visible()
    page.get_by_role("button", name="Graph order").first.click()
    assert len(opened.names()) == whole


def test_a_row_is_chosen_by_mouse_keys_and_address(
    opened: Opened, chromium: Any, report: Path
) -> None:
    page = opened.page
    title = page.locator("#detail h3")
    page.locator("#tensor-table tbody tr", has_text=NAMES[3]).click()
    assert title.inner_text() == NAMES[3]
    page.locator("#tensor-table tbody tr[aria-current]").focus()
    page.keyboard.press("ArrowDown")
    assert title.inner_text() == NAMES[4]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert title.inner_text() == NAMES[2]
    page.get_by_role("button", name="Next tensor").click()
    assert title.inner_text() == NAMES[3]
    again = Opened(
        chromium, report, page.url.partition("#")[1] + page.url.partition("#")[2]
    )
    assert again.page.locator("#detail h3").inner_text() == NAMES[3]
    again.context.close()


def test_a_point_of_the_graph_chooses_its_tensor(opened: Opened) -> None:
    page = opened.page
    dots = page.locator("#plot-layers .dot")
    assert dots.count() == len(NAMES)
    dots.nth(5).click()
    assert page.locator("#detail h3").inner_text() == NAMES[5]
    # One stop of Tab for all points; arrows move between them.
    assert page.locator("#plot-layers .dot[tabindex='0']").count() == 1
    dots.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#detail h3").inner_text() == NAMES[1]


def test_every_tensor_can_be_drawn_on_both_axes(opened: Opened) -> None:
    page = opened.page
    rows = "Array.from(document.querySelectorAll('#tensor-table tbody tr'))"
    wrong = "/undefined|Infinity|NaN(?! and infinite| or infinite)/"
    for _ in range(2):
        broken = page.evaluate(
            f"{rows}.filter(row => {{ row.click();"
            f"return {wrong}.test(document.getElementById('detail').innerHTML); }})"
            ".map(row => row.firstChild.textContent)"
        )
        assert broken == []
        page.evaluate(f"{rows}[0].click()")
        page.get_by_role("button", name=re.compile("axis$")).click()
    assert "undefined" not in page.locator("main").inner_html()


def test_the_theme_goes_from_auto_to_light_to_dark(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(color_scheme="dark")
    color = "getComputedStyle(document.body).backgroundColor"
    button = page.locator("#theme")
    seen = [page.evaluate(color)]
    for name in ("light", "dark", "auto"):
        button.click()
        assert button.inner_text() == f"Theme: {name}"
        seen.append(page.evaluate(color))
    auto, light, dark, again = seen
    assert auto == dark == again != light


def test_a_print_is_light_and_shows_all_rows(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    assert not page.locator(".toc").is_visible()
    frame = "document.querySelector('#tensor-table .frame')"
    assert page.evaluate(f"{frame}.scrollHeight <= {frame}.clientHeight")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('h1')).color")
        == "rgb(27, 31, 36)"
    )


def test_csv_has_the_rows_that_are_shown(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    page.get_by_label("Filter tensors").fill("layer.3")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").first.click()
    saved.value.save_as(tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith("Tensor,Verdict,SQNR")
    assert [line.split(",")[0] for line in lines[1:]] == opened.names()


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    lin = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]


def test_all_text_has_the_contrast_of_wcag_aa(report: Path) -> None:
    text = report.read_text("utf-8")
    blocks = re.findall(r"--bg: .*?color-scheme: (light|dark);", text, re.S)
    themes = re.findall(r"(--bg: .*?)color-scheme: (?:light|dark);", text, re.S)
    assert blocks == ["light", "dark", "dark"]
    for theme in themes:
        colors = dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6});", theme))
        for name in ("ink", "dim", "accent", "good", "check", "poor", "m0", "m5"):
            for ground in ("card", "bg"):
                high, low = sorted(
                    (luminance(colors[name]), luminance(colors[ground])), reverse=True
                )
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)
