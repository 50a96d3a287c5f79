"""The training report: rows as JSON lines, as a Markdown table, as a chart and as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.measure import Rate
from bench.rows import read_values, write_rows
from chexnet_fast.page import data_uri, flatten, write_page
from chexnet_fast.plots import COLORS, INK, MUTED, STYLE, save_figure
from shards.files import whole_file

FAMILY_COLORS = {"reference": INK, "plain": MUTED, "ceiling": COLORS[1], "ours": COLORS[0], "limit": COLORS[2]}
HEADINGS = (
    "way",
    "reads",
    "batch",
    "arithmetic",
    "training img/s (95 % interval)",
    "validation img/s",
    "NIH epoch",
    "ratio",
    "of the ceiling",
    "waiting for data",
    "GPU busy",
    "GPU memory",
)


@dataclass(frozen=True)
class TrainingRow:
    """A way to train, and its speed.

    Args:
        family: "reference", "plain", "ceiling", "ours" or "limit".
        name: its name.
        reads: where images come from; for a limit, what it follows from.
        train: images per second in training.
        batch_size: images per step.
        arithmetic: of the forward pass.
        val: images per second in validation.
        epoch_seconds: an epoch of NIH at these rates: 78,468 training and 11,219 validation images.
        ratio: of training, to the reference.
        share: of training, of the ceiling, 0 to 1.
        data_wait: the share of the time in which the device waited for data, 0 to 1.
        gpu_busy: the share of the time in which a kernel ran, 0 to 1.
        gpu_memory: bytes of the GPU's memory that the case takes.
    """

    family: str
    name: str
    reads: str
    train: Rate
    batch_size: int | None = None
    arithmetic: str | None = None
    val: Rate | None = None
    epoch_seconds: float | None = None
    ratio: float | None = None
    share: float | None = None
    data_wait: float | None = None
    gpu_busy: float | None = None
    gpu_memory: float | None = None


def training_cells(row: TrainingRow) -> tuple[str, ...]:
    """Return a row as text, under HEADINGS."""

    def text(value: float | None, pattern: str) -> str:
        return "" if value is None else pattern.format(value)

    spread = "" if row.train.low == row.train.high else f" ({row.train.low:,.0f} - {row.train.high:,.0f})"
    return (
        row.name,
        row.reads,
        text(row.batch_size, "{}"),
        row.arithmetic or "",
        f"{row.train.median:,.0f}{spread}",
        text(row.val.median if row.val else None, "{:,.0f}"),
        text(row.epoch_seconds, "{:,.0f} s"),
        text(row.ratio, "{:,.1f}"),
        text(row.share, "{:.1%}"),
        text(row.data_wait, "{:.1%}"),
        text(row.gpu_busy, "{:.0%}"),
        text(row.gpu_memory / 1e9 if row.gpu_memory else None, "{:.1f} GB"),
    )


def read_training_rows(path: Path) -> tuple[list[TrainingRow], dict[str, Any]]:
    """Read the training report's rows, and their environment."""
    values, environment = read_values(path)
    for value in values:
        value.update({name: Rate(**value[name]) for name in ("train", "val") if value[name] is not None})
    return [TrainingRow(**value) for value in values], environment


def format_training_rows(rows: Sequence[TrainingRow]) -> str:
    """Return the rows as a Markdown table; columns that are empty in every row are left out."""
    cells = pd.DataFrame([training_cells(row) for row in rows], columns=HEADINGS)
    cells = cells.loc[:, (cells != "").any()]
    lines = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_training_report(rows: list[TrainingRow], environment: dict[str, Any], out: Path) -> None:
    """Write training.jsonl, training.md, training.png and training.html to a folder; the page needs no other file."""
    write_rows(rows, environment, out / "training.jsonl")
    with whole_file(out / "training.md") as temporary:
        temporary.write_text(format_training_rows(rows), encoding="utf-8")
    save_figure(plot_training_rows(rows), out / "training.png")
    write_page(
        out / "training.html",
        headline=_headline(rows),
        picture_uri=data_uri(out / "training.png"),
        rows=pd.DataFrame([training_cells(row) for row in rows], columns=HEADINGS),
        settings={"Measured on": flatten(environment)},
    )


@rc_context(STYLE)
def plot_training_rows(rows: Sequence[TrainingRow]) -> Figure:
    """Draw every row's training rate and interval as a bar."""
    figure = Figure(figsize=(10.4, 0.3 * len(rows) + 1.1))
    axes = figure.subplots()
    medians = np.array([row.train.median for row in rows])
    spread = np.array([(row.train.median - row.train.low, row.train.high - row.train.median) for row in rows]).T
    colors = [FAMILY_COLORS[row.family] for row in rows]
    bars = axes.barh(range(len(rows)), medians, color=colors, height=0.74, xerr=spread, error_kw={"ecolor": INK})
    axes.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=4, fontsize=7.5)
    axes.set_yticks(range(len(rows)), [f"{row.name}, {row.reads}" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.08)
    axes.set_xlabel("images per second in training (lines: 95 % interval)")
    return figure


def _headline(rows: Sequence[TrainingRow]) -> dict[str, tuple[str, str]]:
    """Return the page's figures: the reference's pace, and our fastest."""
    reference = next(row for row in rows if row.family == "reference")
    best = max((row for row in rows if row.family == "ours"), key=lambda row: row.train.median)
    return {
        way: (f"{row.train.median:,.0f} img/s", f"{row.name}, {row.reads}: {row.epoch_seconds:,.0f} s an NIH epoch")
        for way, row in (("reference", reference), ("chexnet-fast", best))
    }
