"""The README's picture and table beside other tools, from the page of `choosing`.

Run as ``python -m benches.accuracy.choice.readme``. Networks count on which every tool was
measured.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benches.accuracy.choice.page import FLOOR, PAGE
from benches.harness.process import DOCS

README = DOCS.parent / "README.md"
PICTURE = DOCS / "images" / "beside-others.svg"
BEGIN = "<!-- table: python -m benches.accuracy.choice.readme -->"
END = "<!-- end -->"
TOOLS = {
    "auto": "quantcal, `auto`",
    "onnxsim auto": "onnxsim 0.8.1, `auto`",
    "ONNX Runtime MinMax": "ONNX Runtime 1.32, MinMax",
}
"""Rows of the page, and how the README names them."""

COLORS = ("#0d9488", "#e08a3c", "#8b5cf6")
GRAY = "#7d8590"  # readable on white and on black

Row = tuple[float, float, float]
"""Loss, seconds, MiB."""


def read(text: str) -> dict[str, dict[str, Row]]:
    """Return the rows of all tools by network, of networks that have all."""
    found: dict[str, dict[str, Row]] = {}
    for section in text.split("\n## ")[1:]:
        name, _, body = section.partition("\n")
        if "Samples: " not in body:
            continue  # a table of all networks
        rows = {}
        for line in body.splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split("|")]
            if cells[0] in TOOLS and len(cells) > 8:
                loss = float(re.split(r" \(", cells[1])[0])
                rows[cells[0]] = (loss, float(cells[-2]), float(cells[-1]))
        if len(rows) == len(TOOLS):
            found[name] = rows
    return found


def table(networks: dict[str, dict[str, Row]]) -> str:
    """Return the README's table as Markdown."""
    count = len(networks)
    lines = [
        f"| {count} networks, 8 bits | {' | '.join(TOOLS.values())} |",
        "|---" * (len(TOOLS) + 1) + "|",
    ]
    values = np.array([[rows[tool] for tool in TOOLS] for rows in networks.values()])
    loss = np.maximum(values[..., 0], FLOOR)
    ratios = loss / loss.min(1, keepdims=True)
    mean = np.exp(np.log(ratios).mean(0))
    rows = {
        "loss, as a multiple of the least: mean": [f"{v:.1f} ×" for v in mean],
        "the same: worst network": [f"{v:.1f} ×" for v in ratios.max(0)],
        "networks with the least loss": [str(v) for v in (ratios == 1).sum(0)],
        "time to quantize, all together": [f"{v:.0f} s" for v in values[..., 1].sum(0)],
        "peak memory above the start: median, largest": [
            f"{np.median(v):.0f}, {v.max():.0f} MiB" for v in values[..., 2].T
        ],
    }
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def draw(networks: dict[str, dict[str, Row]], path: Path) -> None:
    """Draw the losses of all tools on all networks."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    # The same bytes every time, and text that a browser draws.
    mpl.rcParams.update({"svg.hashsalt": "quantcal", "svg.fonttype": "none"})
    mpl.rcParams.update({"font.family": "sans-serif", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7.6, 3.3))
    order = sorted(networks, key=lambda name: networks[name]["auto"][0], reverse=True)
    for place, name in enumerate(order):
        losses = [networks[name][tool][0] for tool in TOOLS]
        axes.plot(
            [min(losses), max(losses)],
            [place] * 2,
            color=GRAY,
            lw=1,
            alpha=0.5,
            zorder=1,
        )
    for tool, color in zip(TOOLS, COLORS, strict=True):
        x = [networks[name][tool][0] for name in order]
        label = TOOLS[tool].replace("`", "")
        axes.scatter(x, range(len(order)), s=64, color=color, label=label, zorder=2)
    axes.set_xscale("log")
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel(
        "loss of the outputs (0: float model, 1: the mean alone); left is better"
    )
    axes.tick_params(which="both", colors=GRAY, length=0)
    axes.xaxis.label.set_color(GRAY)
    axes.grid(axis="x", color=GRAY, alpha=0.2)
    axes.spines[:].set_visible(False)
    legend = axes.legend(
        loc="lower center", bbox_to_anchor=(0.4, 1), ncols=len(TOOLS), frameon=False
    )
    for text in legend.get_texts():
        text.set_color(GRAY)
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    networks = read(PAGE.read_text("utf-8"))
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(networks)}\n{END}{after}", "utf-8")
    draw(networks, PICTURE)


if __name__ == "__main__":
    main()
