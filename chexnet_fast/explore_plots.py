"""The figures of a data set: findings together, ages, shares of categories, and sample images."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from chexnet_fast.plots import COLORS, FAINT, GRID, INK, MUTED, STYLE, display_name

MAX_AGE = 100
"""Years that the figure of ages reaches; what lies beyond is counted in its title."""
BIN_YEARS = 5
MAX_SHARE = 0.5
"""The share with the darkest colour: the same for each fold and data set, so that heatmaps compare."""
SAMPLE_PIXELS = 320
CAPTION_LETTERS = 30


@rc_context(STYLE)
def plot_cooccurrence(counts: pd.DataFrame, title: str) -> Figure:
    """Draw how often one finding comes with another: of the images with the row's, the share with the column's.

    Args:
        counts: (F, F) numbers of images that are positive for both, findings as index and columns; its diagonal is
            each finding's positives. A finding without any has a grey row.
        title: stands above.
    """
    together = counts.to_numpy(float)
    positives = np.diag(together)
    apart = (positives[:, None] > 0) & ~np.eye(len(counts), dtype=bool)
    shares = np.full_like(together, np.nan)
    np.divide(together, positives[:, None], out=shares, where=apart)
    figure = Figure(figsize=(0.56 * len(counts) + 2.6, 0.42 * len(counts) + 1.7))
    axes = figure.subplots()
    axes.set_facecolor(GRID)
    mesh = axes.imshow(shares, cmap="Blues", vmin=0, vmax=MAX_SHARE, aspect="auto")
    for row, column in np.argwhere(shares > 0):
        share = shares[row, column]
        text = f"{share:.0%}" if share >= 0.01 else "<1%"
        color = "white" if share > 0.6 * MAX_SHARE else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    names = [display_name(name) for name in counts.columns]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), [f"{name} ({count:,.0f})" for name, count in zip(names, positives, strict=True)])
    axes.set(title=title, xlabel="... also show", ylabel="of the images that show ...")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(mesh, format=PercentFormatter(1), extend="max", shrink=0.6, aspect=24)
    return figure


@rc_context(STYLE)
def plot_ages(ages: Mapping[str, pd.Series]) -> Figure:
    """Draw each fold's ages as shares of its images, in bins of BIN_YEARS.

    Args:
        ages: by fold, years; unknown ones are NaN and not drawn.
    """
    edges = np.arange(0, MAX_AGE + BIN_YEARS, BIN_YEARS)
    figure = Figure(figsize=(10.4, 3.2))
    axes = figure.subplots()
    for (fold, years), color in zip(ages.items(), COLORS[: len(ages)], strict=True):
        known = years.dropna()
        shares = np.histogram(known, edges)[0] / max(len(known), 1)
        label = f"{fold}: median {known.median():.0f} years" if len(known) else f"{fold}: no age known"
        axes.stairs(shares, edges, color=color, linewidth=1.6, label=label)
        axes.stairs(shares, edges, color=color, fill=True, alpha=0.06)
    axes.set(title="Age", xlabel=f"years, in bins of {BIN_YEARS}", ylabel="images of the fold", xlim=(0, MAX_AGE))
    axes.set_xticks(range(0, MAX_AGE + 1, 10))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend()
    return figure


@rc_context(STYLE)
def plot_categories(counts: pd.DataFrame, title: str, xlabel: str) -> Figure:
    """Draw each fold's shares of some categories, with the counts beside the bars.

    Args:
        counts: categories as index, folds as columns.
        title: stands above.
        xlabel: what the shares are of.
    """
    height = 0.8 / len(counts.columns)
    figure = Figure(figsize=(5.2, 0.24 * counts.size + 0.14 * len(counts) + 1.2))
    axes = figure.subplots()
    places = np.arange(len(counts))
    for index, (fold, color) in enumerate(zip(counts.columns, COLORS[: len(counts.columns)], strict=True)):
        shares = counts[fold] / max(counts[fold].sum(), 1)
        offset = (index - (len(counts.columns) - 1) / 2) * height
        bars = axes.barh(places + offset, shares, height=0.88 * height, color=color, label=fold)
        texts = [f"{share:.1%} ({count:,})" for share, count in zip(shares, counts[fold], strict=True)]
        axes.bar_label(bars, texts, padding=3, fontsize=7.5)
    axes.set_yticks(places, [str(name) for name in counts.index])
    axes.set(title=title, xlabel=xlabel)
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.set_xlim(0, 1.35 * axes.dataLim.x1)
    axes.set_xticks([tick for tick in np.linspace(0, 1, 6) if tick <= axes.get_xlim()[1]])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(counts.columns))
    return figure


@rc_context(STYLE)
def plot_samples(images: Sequence[Image.Image], captions: Sequence[str], names: Sequence[str]) -> Figure:
    """Draw X-rays in rows of four, each under its caption and over its name."""
    num_columns = 4
    num_rows = -(-len(images) // num_columns)
    figure = Figure(figsize=(10.4, 3.15 * num_rows))
    grid = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes, image, caption, name in zip(grid[: len(images)], images, captions, names, strict=True):
        small = image.copy()
        small.thumbnail((SAMPLE_PIXELS, SAMPLE_PIXELS), Image.Resampling.LANCZOS)
        axes.imshow(np.asarray(small), cmap="gray", vmin=0, vmax=255)
        axes.set_title(fill(caption, CAPTION_LETTERS), fontsize=8.5)
        axes.set_xlabel(fill(name, CAPTION_LETTERS + 8), fontsize=6.5, color=MUTED, labelpad=3)
        axes.set(xticks=(), yticks=())
        axes.spines[:].set(visible=True, color=FAINT)
    for axes in grid[len(images) :]:
        axes.set_axis_off()
    return figure
