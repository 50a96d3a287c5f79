"""The loader report: rows as JSON lines, as a Markdown table, as a chart and as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.rows import Row, format_rows, row_cells, write_rows
from chexnet_fast.page import data_uri, flatten, write_page
from chexnet_fast.plots import COLORS, INK, MUTED, STYLE, save_figure
from shards.files import whole_file

FAMILY_COLORS = {"reference": INK, "pil": MUTED, "ours": COLORS[0], "peer": COLORS[4], "limit": COLORS[2]}
FAMILY_NAMES = {
    "reference": "reference",
    "pil": "Pillow in a torch DataLoader",
    "ours": "chexnet-fast",
    "peer": "other libraries",
    "limit": "copy of the output's bytes: the limit",
}
HEADINGS = ("Loader", "Reads", "Yields", "img/s (95 % interval)", "Ratio", "Of the limit")


def write_loader_report(rows: list[Row], environment: dict[str, Any], out: Path) -> None:
    """Write loaders.jsonl, loaders.md, loaders.png and loaders.html to a folder; the page needs no other file."""
    write_rows(rows, environment, out / "loaders.jsonl")
    with whole_file(out / "loaders.md") as temporary:
        temporary.write_text(format_rows(rows), encoding="utf-8")
    save_figure(plot_rows(rows), out / "loaders.png")
    write_page(
        out / "loaders.html",
        headline=_headline(rows),
        picture_uri=data_uri(out / "loaders.png"),
        rows=pd.DataFrame([row_cells(row) for row in rows], columns=HEADINGS),
        settings={"Measured on": flatten(environment)},
    )


@rc_context(STYLE)
def plot_rows(rows: Sequence[Row]) -> Figure:
    """Draw every measured row's rate and interval as a bar, on a logarithmic scale, in a panel for each output.

    A dashed line marks the reference in every panel, and a dotted one the panel's limit.
    """
    measured = [row for row in rows if row.rate is not None]
    outputs = list(dict.fromkeys(row.output for row in measured))
    panels_rows = [[row for row in measured if row.output == output] for output in outputs]
    heights = [len(panel_rows) + 1.5 for panel_rows in panels_rows]
    figure = Figure(figsize=(10.4, 0.23 * sum(heights) + 0.9))
    panels = figure.subplots(len(outputs), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, output, panel_rows in zip(panels, outputs, panels_rows, strict=True):
        axes.set_title(output)
        _draw_bars(axes, panel_rows)
        _draw_marks(axes, measured, output)
    panels[-1].set_xlabel("images per second, in torch's hands (logarithmic; lines: 95 % interval)")
    families = [family for family in FAMILY_COLORS if any(row.family == family for row in measured)]
    handles = [panels[0].barh(0, 0, color=FAMILY_COLORS[family]) for family in families]
    figure.legend(handles, [FAMILY_NAMES[family] for family in families], loc="outside upper left", ncols=3)
    return figure


def _draw_bars(axes: Axes, rows: list[Row]) -> None:
    rates = [row.rate for row in rows if row.rate is not None]
    medians = np.array([rate.median for rate in rates])
    spread = np.array([(rate.median - rate.low, rate.high - rate.median) for rate in rates]).T
    colors = [FAMILY_COLORS[row.family] for row in rows]
    bars = axes.barh(range(len(rows)), medians, color=colors, height=0.74, xerr=spread, error_kw={"ecolor": INK})
    axes.bar_label(bars, [f"{row.rate.median:,.0f}" for row in rows if row.rate], padding=4, fontsize=7.5)
    axes.set_yticks(range(len(rows)), [f"{row.loader}, {row.input}".removesuffix(", ") for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
    axes.tick_params(axis="x", labelbottom=True)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)


def _draw_marks(axes: Axes, rows: Sequence[Row], output: str) -> None:
    for row in rows:
        if row.rate is not None and row.family == "reference":
            axes.axvline(row.rate.median, color=INK, linewidth=1, linestyle=(0, (5, 3)))
        if row.rate is not None and row.family == "limit" and row.output == output:
            axes.axvline(row.rate.median, color=FAMILY_COLORS["limit"], linewidth=1, linestyle=(0, (1, 2)))


def _headline(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Return the page's figures: the reference's rate, and our highest for each output."""
    figures = {"reference": ("", "")}
    best: dict[str, float] = {}
    for row in rows:
        if row.rate is None:
            continue
        value = f"{row.rate.median:,.0f} img/s"
        if row.family == "reference":
            figures["reference"] = value, f"{row.loader}, {row.output}"
        elif row.family == "ours" and row.rate.median > best.get(row.output, 0):
            best[row.output] = row.rate.median
            figures[row.output] = value, f"{row.loader}, {row.input}: {row.ratio:,.1f} times the reference"
    return figures
