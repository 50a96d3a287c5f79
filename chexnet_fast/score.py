"""The tables that say how good predictions are: AUCs, the comparison with publications, metrics at 0.5, ROC curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from chexnet_fast.metrics import auc_intervals, auc_table, threshold_metrics, undefined_aucs
from chexnet_fast.plots import display_name, plot_roc, save_figure
from chexnet_fast.predictions import Predictions, join_labels, read_predictions
from chexnet_fast.reference import comparison_table
from shards.datasets.nih import read_nih_labels
from shards.files import whole_file

COMPARISON_HEADINGS = {
    "finding": "Finding",
    "auc": "This run",
    "interval": "95 % interval",
    "reproduce_chexnet": "reproduce-chexnet",
    "chexnet_paper": "CheXNet paper",
    "num_positive": "Positives",
}
"""The comparison's columns as a person reads them; `interval` joins `low` and `high`."""


@dataclass(frozen=True)
class Scores:
    """What `write_scores` wrote: the comparison table, and one note per finding that has no AUC.

    As text it is the table for people, the notes, and the folder of the files.
    """

    out: Path
    comparison: pd.DataFrame
    notes: list[str]

    def __str__(self) -> str:
        table = comparison_text(self.comparison).to_string(index=False)
        return "\n".join([table, *self.notes, f"written to {self.out}"])


def score(predictions_csv: Path, labels_csv: Path, out: Path) -> Scores:
    """Score saved predictions against NIH's labels and write the tables to the folder `out`.

    Raises:
        UserError: if a file cannot be read, or a predicted image or finding has no labels.
    """
    labels = read_nih_labels(labels_csv)
    predictions = join_labels(read_predictions(predictions_csv), labels)
    patients = labels.set_index("image_id").loc[predictions.image_ids, "patient_id"].to_numpy()
    return write_scores(predictions, patients, out)


def write_scores(predictions: Predictions, patients: Sequence[str] | np.ndarray, out: Path) -> Scores:
    """Write aucs.csv, comparison.csv, comparison.md, metrics.csv and roc.png to the folder `out`.

    aucs.csv is in reproduce-chexnet's format: `label,auc` in the predictions' order, every digit of the float64; the
    AUC of a finding with one class only is an empty field, and a note.

    Args:
        predictions: with labels.
        patients: the images' patients, for the intervals.
    """
    out.mkdir(parents=True, exist_ok=True)
    aucs = auc_table(predictions)
    comparison = comparison_table(aucs, auc_intervals(predictions, patients))
    notes = undefined_aucs(aucs)
    _write_text(out / "aucs.csv", _csv(aucs[["label", "auc"]]))
    _write_text(out / "comparison.csv", _csv(comparison))
    _write_text(out / "comparison.md", _markdown(comparison_text(comparison), notes))
    _write_text(out / "metrics.csv", _csv(threshold_metrics(predictions)))
    save_figure(plot_roc(predictions, aucs), out / "roc.png")
    return Scores(out, comparison, notes)


def comparison_text(comparison: pd.DataFrame) -> pd.DataFrame:
    """Format a comparison table for people: AUCs with four digits, counts with commas, a dash where nothing is known.

    Returns:
        Text columns named by `COMPARISON_HEADINGS`.
    """
    text = pd.DataFrame(
        {
            "finding": comparison["finding"].map(display_name),
            "auc": dash_or(comparison["auc"], "{:.4f}"),
            "interval": dash_or(comparison["low"], "{:.3f}") + "–" + dash_or(comparison["high"], "{:.3f}"),
            "reproduce_chexnet": dash_or(comparison["reproduce_chexnet"], "{:.4f}"),
            "chexnet_paper": dash_or(comparison["chexnet_paper"], "{:.4f}"),
            "num_positive": dash_or(comparison["num_positive"], "{:,}"),
        }
    )
    text.loc[comparison["low"].isna(), "interval"] = "–"
    return text.rename(columns=COMPARISON_HEADINGS)


def dash_or(values: pd.Series, pattern: str) -> pd.Series:
    """Format numbers with a `str.format` pattern, and missing ones as a dash."""
    return values.map(lambda value: "–" if pd.isna(value) else pattern.format(value))


def _markdown(text: pd.DataFrame, notes: Sequence[str]) -> str:
    rows = [text.columns, ["---"] + ["--:"] * (len(text.columns) - 1), *text.to_numpy()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *[f"- {note}" for note in notes]]).rstrip() + "\n"


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
