"""Shows a demo's result: a table, and its main points as sentences."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantcal.demo.ocr import Accuracy
    from quantcal.demo.result import DemoResult, StrategyResult

_COLUMNS: Final = (
    "ranges",
    "exact match, Q/DQ",
    "exact match, kernels",
    "CER, Q/DQ",
    "CER, kernels",
    "search",
    "reading, kernels",
)


def show(result: DemoResult) -> None:
    """Print the table and the sentences, with rich on a terminal, else plain."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(plain_table(result))
        print("\n" + "\n".join(sentences(result)))
        return
    if not sys.stdout.isatty():
        print(plain_table(result))
        print("\n" + "\n".join(sentences(result)))
        return
    table = Table(title=_title(result), box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(_COLUMNS):
        heading = name.replace(", ", "\n")
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows(result):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for sentence in sentences(result):
        console.print(sentence, markup=False, highlight=False)


def rows(result: DemoResult) -> list[tuple[str, ...]]:
    """Return the cells of the table: FP32 first, then one row per strategy."""
    base = result.float32
    time = f"{base.seconds:.1f} s"
    first = ("FP32", _share(base), "", f"{base.cer:.4f}", "", "", time)
    return [first, *(_row(entry) for entry in result.strategies)]


def _row(entry: StrategyResult) -> tuple[str, ...]:
    return (
        f"INT8 {entry.strategy}",
        _share(entry.exact),
        _share(entry.native),
        f"{entry.exact.cer:.4f}",
        f"{entry.native.cer:.4f}",
        f"{entry.search_seconds * 1000:.0f} ms",
        f"{entry.native.seconds:.1f} s",
    )


def _share(accuracy: Accuracy) -> str:
    return f"{accuracy.exact_match:.3f} ±{accuracy.margin:.3f}"


def _title(result: DemoResult) -> str:
    return (
        f"PP-OCRv4 text recognizer, {result.float32.lines} lines read, "
        f"{result.calibration_lines} other lines observed"
    )


def plain_table(result: DemoResult) -> str:
    """Return the table as text without colors or frames."""
    cells = [_COLUMNS, *rows(result)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_COLUMNS))]
    lines = [_title(result)]
    for row in cells:
        first = row[0].ljust(widths[0])
        rest = (c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join((first, *rest)).rstrip())
    return "\n".join(lines)


def sentences(result: DemoResult) -> list[str]:
    """Return the main points of the table, one sentence per line."""
    lines = [*_ranking(result), *_chosen(result), _kernels(result)]
    narrow = ", 7 in nodes that would overflow" if result.weight_bits < 8 else ""
    lines.append(f"Weights take 8 bits{narrow}: {result.weight_reason.rstrip('.')}.")
    peaks = ", ".join(
        f"{size / 1e6:.0f} MB {stage}" for stage, size in result.peak_bytes.items()
    )
    lines.append(
        f"One pass of {result.observe_seconds:.1f} s over {result.calibration_lines} "
        f"lines observed {result.tensors} tensors; every strategy reads the same "
        "histograms." + (f" Peak memory: {peaks}." if peaks else "")
    )
    lines.append(
        "Exact match is the share of lines read without a mistake, ± half a 95 % "
        "interval; CER is the share of wrong characters. Q/DQ: every node computed as "
        "written; kernels: as this machine's integer kernels compute it."
    )
    lines.append(f"Models, histograms and figures are in {result.output}.")
    return lines


def _ranking(result: DemoResult) -> list[str]:
    """Return which strategies keep the accuracy of FP32, and which lose it."""
    base = result.float32
    ranked = sorted(
        result.strategies, key=lambda r: (-r.exact.exact_match, r.exact.cer)
    )
    if not ranked:
        return []
    near = [r for r in ranked if _loss(base, r.exact) <= base.margin]
    far = [r for r in ranked if _loss(base, r.exact) > base.margin]
    lines = []
    if near:
        verb = "is" if len(near) == 1 else "are"
        lines.append(
            f"In exact arithmetic {_names(near, base)} {verb} within FP32's margin of "
            f"±{base.margin:.3f}."
        )
    if far:
        verb = "loses" if len(far) == 1 else "lose"
        lines.append(
            f"In exact arithmetic {_names(far, base)} {verb} more than FP32's margin "
            f"of ±{base.margin:.3f}."
        )
    return lines


def _chosen(result: DemoResult) -> list[str]:
    """Return what ``auto`` chose, and the tensors that lose most."""
    pairs = [pair for entry in result.strategies for pair in entry.choice]
    return [f"auto, {key}: {text}." for key, text in pairs if key != "others lose"]


def _names(entries: Sequence[StrategyResult], base: Accuracy) -> str:
    parts = [f"{r.strategy} ({-_loss(base, r.exact):+.3f})" for r in entries]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _loss(base: Accuracy, other: Accuracy) -> float:
    return base.exact_match - other.exact_match


def _kernels(result: DemoResult) -> str:
    """Return whether the kernels of this machine add a loss."""
    apart = [
        f"{r.strategy} ({r.native.exact_match - r.exact.exact_match:+.3f})"
        for r in result.strategies
        if abs(r.native.exact_match - r.exact.exact_match) > r.exact.margin
    ]
    if not apart:
        return "This machine's kernels agree with exact arithmetic within the margin."
    return (
        f"This machine's kernels differ from exact arithmetic: {', '.join(apart)}. "
        "The ranges are not the cause."
    )
