"""The figures of a run: training curves, ROC curves, AUCs and classes. They leave pyplot and its global state alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from chexnet_fast.metrics import labelled_columns
from chexnet_fast.predictions import Predictions
from chexnet_fast.trainlog import read_train_log
from shards.files import whole_file
from shards.findings import FOLDS

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with every kind of colour vision."""
INK, MUTED, FAINT, GRID = "#1f2933", "#616e7c", "#9aa5b1", "#e4e7eb"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}
"""The one style of every figure, as `rc_context` takes it (whose key type differs between matplotlib's versions)."""


def display_name(finding: str) -> str:
    """Return a finding's name as a person writes it: `Pleural_Thickening` as `Pleural Thickening`."""
    return finding.replace("_", " ")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure at 144 dots per inch, whole or not at all, in the format that the suffix names."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=144)


@rc_context(STYLE)
def plot_roc(predictions: Predictions, aucs: pd.DataFrame) -> Figure:
    """Draw each finding's ROC curve in a panel of its own, with its AUC and its positives.

    A finding without an AUC says so in its panel.

    Args:
        predictions: with labels.
        aucs: as `auc_table` returns for them.
    """
    num_columns = min(5, len(predictions.findings))
    num_rows = -(-len(predictions.findings) // num_columns)
    figure = Figure(figsize=(2.05 * num_columns + 0.4, 2.25 * num_rows + 0.3))
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    used = panels[: len(predictions.findings)]
    for axes, column, auc in zip(used, labelled_columns(predictions), aucs["auc"], strict=True):
        finding, _, truth, probabilities = column
        axes.set_title(display_name(finding), fontsize=9)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=(0, (3, 3)))
        if np.isnan(auc):
            note = "no AUC"
        else:
            note = f"AUC {auc:.3f}"
            false_positive_rate, sensitivity, _ = roc_curve(truth, probabilities)
            axes.plot(false_positive_rate, sensitivity, color=COLORS[0])
            axes.fill_between(false_positive_rate, sensitivity, color=COLORS[0], alpha=0.08, linewidth=0)
        axes.text(0.97, 0.05, f"{note}\n{truth.sum():,} positive", ha="right", va="bottom", fontsize=8)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
    for index in range(len(used), len(panels)):
        panels[index].set_axis_off()
        panels[index - num_columns].tick_params(labelbottom=True)
    figure.supxlabel("false positive rate (1 - specificity)", fontsize=9)
    figure.supylabel("sensitivity", fontsize=9)
    return figure


@rc_context(STYLE)
def plot_aucs(aucs: dict[str, pd.DataFrame]) -> Figure:
    """Draw the AUC per finding of several runs or publications, one colour each.

    Args:
        aucs: by name, `label` and `auc`, and optionally `low` and `high`, drawn as a bar. Findings
            stand in the order of the first.
    """
    labels = list(dict.fromkeys(label for table in aucs.values() for label in table["label"]))
    figure = Figure(figsize=(10.4, 0.27 * len(labels) + 1.1))
    axes = figure.subplots()
    for index, (name, table) in enumerate(aucs.items()):
        color, marker = COLORS[index % len(COLORS)], "osD^v"[index % 5]
        places = np.array([labels.index(label) for label in table["label"]]) + _offset(index, len(aucs))
        if {"low", "high"} <= set(table.columns):
            axes.hlines(places, table["low"], table["high"], color=color, linewidth=2, alpha=0.45)
        axes.plot(table["auc"], places, marker, color=color, markersize=5, markeredgewidth=0, label=name)
    axes.set_yticks(range(len(labels)), [display_name(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel("AUC")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    return figure


def plot_logs(runs: Sequence[Path], out: Path) -> None:
    """Draw the training curves of several runs, each a run folder or a log_train file, into one picture file.

    Raises:
        UserError: if a log cannot be read.
    """
    logs = {str(run): read_train_log(run / "log_train.csv" if run.is_dir() else run) for run in runs}
    save_figure(plot_runs(logs), out)


@rc_context(STYLE)
def plot_runs(logs: dict[str, pd.DataFrame]) -> Figure:
    """Draw the training curves of several runs in one picture: loss, validation AUC, learning rate, speed, waiting.

    A panel is drawn only if some log has its column.

    Args:
        logs: by the run's name, as `read_train_log` returns.
    """
    titles = {
        "loss": "Loss (binary cross-entropy)",
        "val_auc": "Validation AUC (mean of findings)",
        "lr": "Learning rate",
        "images_per_second": "Images per second",
        "data_wait": "Time waiting for data (%)",
    }
    known = {name for log in logs.values() for name in log if log[name].notna().any()}
    panels = [name for name in titles if name == "loss" or name in known]
    num_columns = min(2, len(panels))
    num_rows = -(-len(panels) // num_columns)
    figure = Figure(figsize=(4.6 * num_columns, 2.8 * num_rows))
    grid = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes, name in zip(grid[: len(panels)], panels, strict=True):
        _draw_panel(axes, name, logs)
        axes.set(title=titles[name], xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=4)
    return figure


def _draw_panel(axes: Axes, name: str, logs: dict[str, pd.DataFrame]) -> None:
    for index, (run, log) in enumerate(logs.items()):
        color = COLORS[index % len(COLORS)]
        epochs = log["epoch"]
        if name == "loss":
            prefix = f"{run}, " if len(logs) > 1 else ""
            axes.plot(epochs, log["val_loss"], color=color, marker="o", markersize=3.5, label=f"{prefix}validation")
            axes.plot(epochs, log["train_loss"], color=color, linestyle=(0, (4, 2)), label=f"{prefix}training")
        elif name in log:
            scale = 100 if name == "data_wait" else 1
            axes.plot(epochs, log[name] * scale, color=color, marker="o", markersize=3.5)
    if name == "lr":
        axes.set_yscale("log")
    if name in ("images_per_second", "data_wait"):
        axes.set_ylim(0, 1.1 * axes.dataLim.y1 or 1)


@rc_context(STYLE)
def plot_class_histogram(table: pd.DataFrame, findings: Sequence[str]) -> Figure:
    """Draw how many images of each fold are positive for each finding, with their share of the fold's known labels.

    Args:
        table: a study table.
        findings: the findings to draw, sorted here by their positives over all folds.
    """
    folds = [fold for fold in FOLDS if (table["fold"] == fold).any()]
    order = table[list(findings)].sum().sort_values(ascending=False, kind="stable").index
    figure = Figure(figsize=(3.3 * len(folds) + 1.2, 0.27 * len(order) + 0.9))
    panels = figure.subplots(1, len(folds), sharey=True, squeeze=False)[0]
    for axes, fold, color in zip(panels, folds, COLORS[: len(folds)], strict=True):
        labels = table.loc[table["fold"] == fold, order]
        positives = labels.sum()
        bars = axes.barh([display_name(name) for name in order], positives, color=color, height=0.72)
        texts = [f"{count:,.0f} ({share:.1%})" for count, share in zip(positives, labels.mean(), strict=True)]
        axes.bar_label(bars, texts, padding=3, fontsize=7.5)
        axes.set_title(f"{fold}: {len(labels):,} images")
        axes.set_xlabel("positive images")
        axes.margins(x=0.35)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panels[0].invert_yaxis()
    return figure


def _offset(index: int, count: int) -> float:
    """Return the shift, in rows, that keeps `count` series of one row apart."""
    return (index - (count - 1) / 2) * min(0.22, 0.7 / count)
