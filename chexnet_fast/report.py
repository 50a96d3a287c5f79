"""report.html: one run and its evaluation on one page, with every picture inside it."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from chexnet_fast.metrics import MEAN
from chexnet_fast.page import data_uri, flatten, write_page
from chexnet_fast.plots import display_name, plot_aucs, plot_class_histogram, plot_runs, save_figure
from chexnet_fast.score import COMPARISON_HEADINGS, Scores, comparison_text, dash_or
from shards.findings import FOLDS

METRIC_HEADINGS = {
    "label": "Finding",
    "f1": "F1",
    "recall": "Recall",
    "precision": "Precision",
    "mcc": "MCC",
    "accuracy": "Accuracy",
    "g_mean": "G-mean",
    "num_positive": "Positives",
    "num_predicted_positive": "Predicted positive",
}


def write_report(
    evaluation: Path,
    scores: Scores,
    fold: str,
    table: pd.DataFrame,
    description: Mapping[str, Any],
    log: pd.DataFrame | None,
    heatmaps: Mapping[str, Path],
) -> Path:
    """Write report.html, and the pictures drawn for it, to an evaluation's folder.

    The page needs no other file and no network: pictures are embedded as they lie on the disk.

    Args:
        evaluation: the folder that `write_scores` wrote; metrics.csv and roc.png are taken from it, aucs.png,
            curves.png and classes.png are added to it.
        scores: what `write_scores` returned.
        fold: the fold that was predicted.
        table: the study table, all folds, with labels of 1, 0 and NaN as the run's policy has them.
        description: the run's config.json: `config`, `findings`, `data`, `command` and `environment`.
        log: the run's training log; None for imported weights.
        heatmaps: PNG files by caption, drawn in this order.

    Returns:
        The path of report.html.
    """
    save_figure(plot_aucs(_auc_series(scores.comparison)), evaluation / "aucs.png")
    save_figure(plot_class_histogram(table, description["findings"]), evaluation / "classes.png")
    drawn = ["aucs", "roc", "classes"]
    if log is not None:
        save_figure(plot_runs({"this run": log}), evaluation / "curves.png")
        drawn.append("curves")
    pictures = {name: data_uri(evaluation / f"{name}.png") for name in drawn}
    path = evaluation / "report.html"
    write_page(
        path,
        dataset=description["data"]["dataset"],
        fold=fold,
        headline=headline(scores.comparison, fold, table, log),
        comparison=comparison_text(scores.comparison),
        notes=scores.notes,
        metrics=metrics_text(pd.read_csv(evaluation / "metrics.csv")),
        pictures=pictures,
        heatmaps={caption: data_uri(path) for caption, path in heatmaps.items()},
        settings={
            "Settings": flatten(description["config"]),
            "Data": flatten(description["data"]),
            "Command and environment": {
                "command": shlex.join(description["command"]),
                **flatten(description["environment"]),
            },
        },
    )
    return path


def headline(
    comparison: pd.DataFrame, fold: str, table: pd.DataFrame, log: pd.DataFrame | None
) -> dict[str, tuple[str, str]]:
    """Return the page's first figures: by name, a value and a line that explains it."""
    mean = comparison_text(comparison[comparison["finding"] == MEAN]).iloc[0]
    predicted = table[table["fold"] == fold]
    num_images = {name: int((table["fold"] == name).sum()) for name in FOLDS}
    figures = {
        "Mean AUC": (mean[COMPARISON_HEADINGS["auc"]], f"95 % interval {mean[COMPARISON_HEADINGS['interval']]}"),
        "Images predicted": (
            f"{len(predicted):,}",
            f"{predicted['patient_id'].nunique():,} patients, {fold} fold",
        ),
    }
    if log is None:
        return figures
    best = log["epoch"].iloc[log["val_loss"].argmin()]
    figures["Images trained on"] = (f"{num_images['train']:,}", f"and {num_images['val']:,} to validate")
    figures["Epochs"] = (f"{len(log)}", f"lowest validation loss after epoch {best}")
    if "images_per_second" in log:
        seconds = (num_images["train"] / log["images_per_second"]).sum()
        speed = log["images_per_second"].median()
        figures["Training time"] = (format_seconds(seconds), f"{speed:,.0f} images per second, without validation")
    return figures


def metrics_text(metrics: pd.DataFrame) -> pd.DataFrame:
    """Format the metrics at a threshold for people: three digits, a dash where a metric is undefined."""
    text = pd.DataFrame({"label": metrics["label"].map(display_name)})
    for name in list(METRIC_HEADINGS)[1:]:
        text[name] = dash_or(metrics[name], "{:,}" if name.startswith("num_") else "{:.3f}")
    return text.rename(columns=METRIC_HEADINGS)


def format_seconds(seconds: float) -> str:
    """Write a duration with its two largest units: `45 s`, `3 min 5 s`, `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_rest} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _auc_series(comparison: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the comparison's columns as `plot_aucs` takes them; a publication without these findings is left out."""
    table = comparison.rename(columns={"finding": "label"})
    series = {"this run, with its 95 % interval": table[["label", "auc", "low", "high"]]}
    for name, column in {"reproduce-chexnet": "reproduce_chexnet", "CheXNet paper": "chexnet_paper"}.items():
        if table[column].notna().any():
            series[name] = table[["label", column]].rename(columns={column: "auc"})
    return series
