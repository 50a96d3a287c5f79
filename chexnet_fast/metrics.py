"""AUC per finding with its 95 % interval, and the metrics at a threshold."""

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from chexnet_fast.predictions import Predictions

MEAN = "Mean"
"""The label of the row that holds the mean over findings."""


def labelled_columns(predictions: Predictions) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, per finding, its name, the (N,) mask of images with a known label, and their truth and probabilities.

    Truth is bool, probabilities are float32; both hold the known images only, in order.

    Raises:
        ValueError: if the predictions carry no labels.
    """
    if predictions.labels is None:
        raise ValueError("the predictions carry no labels: join them first")
    for index, finding in enumerate(predictions.findings):
        known = ~np.isnan(predictions.labels[:, index])
        yield finding, known, predictions.labels[known, index] == 1, predictions.probabilities[known, index]


def auc_table(predictions: Predictions) -> pd.DataFrame:
    """Compute the area under the ROC curve of each finding, as reproduce-chexnet does (scikit-learn's roc_auc_score).

    Images whose label is unknown are left out. A finding that has no positive or no negative image has no AUC: it is
    NaN here, and `undefined_aucs` names it.

    Returns:
        `label`, `auc` (float64), `num_positive`, `num_negative`: one row a finding, in the predictions' order.
    """
    rows = []
    for finding, _, truth, probabilities in labelled_columns(predictions):
        num_positive = int(truth.sum())
        num_negative = len(truth) - num_positive
        auc = float(roc_auc_score(truth, probabilities)) if num_positive and num_negative else float("nan")
        rows.append((finding, auc, num_positive, num_negative))
    return pd.DataFrame(rows, columns=["label", "auc", "num_positive", "num_negative"])


def mean_auc(aucs: pd.DataFrame) -> float:
    """Return the mean of an AUC table over the findings that have an AUC; NaN if none has."""
    return float(aucs["auc"].mean())


def undefined_aucs(aucs: pd.DataFrame) -> list[str]:
    """Say in one line per finding why it has no AUC; empty if all have one."""
    return [
        f"{row.label}: no AUC ({row.num_positive:,} positive and {row.num_negative:,} negative images), "
        "left out of the mean"
        for row in aucs[aucs["auc"].isna()].itertuples()
    ]


def auc_intervals(predictions: Predictions, patients: Sequence[str] | np.ndarray) -> pd.DataFrame:
    """Compute the 95 % confidence interval of each AUC and of their mean, with patients as the sampling unit.

    This is DeLong's method (1988) in the form for clustered data (Obuchowski, 1997): an image's influence on the AUC
    is summed over its patient before it is squared, because a patient's images resemble each other. With one image
    per patient it is DeLong's interval. It is exact arithmetic, not drawn: the same input gives the same interval.

    Args:
        predictions: with labels.
        patients: the N images' patients.

    Returns:
        `label`, `low`, `high`, in 0..1: one row a finding, then the row `Mean` over the findings that have an AUC.
        NaN where there is no AUC, or one patient only.
    """
    influences = np.full(predictions.probabilities.shape, np.nan)
    aucs = np.full(len(predictions.findings), np.nan)
    for index, (_, known, truth, probabilities) in enumerate(labelled_columns(predictions)):
        if truth.any() and not truth.all():
            influences[:, index] = 0
            aucs[index], influences[known, index] = _auc_influence(truth, probabilities)
    defined = ~np.isnan(aucs)
    centres = np.append(aucs, aucs[defined].mean() if defined.any() else np.nan)
    influences = np.column_stack([influences, influences[:, defined].sum(axis=1) / max(defined.sum(), 1)])

    per_patient = pd.DataFrame(influences).groupby(pd.factorize(np.asarray(patients))[0]).sum(min_count=1).to_numpy()
    num_patients = len(per_patient)
    correction = num_patients / (num_patients - 1) if num_patients > 1 else np.nan
    half_width = NormalDist().inv_cdf(0.975) * np.sqrt(correction * (per_patient**2).sum(axis=0))
    return pd.DataFrame(
        {
            "label": [*predictions.findings, MEAN],
            "low": np.clip(centres - half_width, 0, 1),
            "high": np.clip(centres + half_width, 0, 1),
        }
    )


def _auc_influence(truth: np.ndarray, probabilities: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the AUC and each image's influence on it: DeLong's structural components, centred and divided by count."""
    positives, negatives = probabilities[truth], probabilities[~truth]
    wins = _share_below(negatives, positives)
    losses = _share_below(positives, negatives)
    auc = wins.mean()
    influence = np.empty(len(truth))
    influence[truth] = (wins - auc) / len(positives)
    influence[~truth] = (1 - losses - auc) / len(negatives)
    return float(auc), influence


def _share_below(population: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return, per value, the share of the population below it, ties counted half."""
    ordered = np.sort(population)
    below = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    return below / (2 * len(ordered))


def threshold_metrics(predictions: Predictions, threshold: float = 0.5) -> pd.DataFrame:
    """Compute F1, recall, precision, MCC, accuracy and g-mean of each finding.

    An image counts as predicted positive where its probability is the threshold or more. These are the metrics of the
    NIH-224 fork of reproduce-chexnet, at its threshold. The g-mean is the square root of sensitivity times specificity.
    A metric whose denominator is zero is NaN: precision where nothing is predicted positive, for one.

    Returns:
        `label`, `f1`, `recall`, `precision`, `mcc`, `accuracy`, `g_mean` (float64), `num_positive`,
        `num_predicted_positive`.
    """
    rows = []
    for finding, _, truth, probabilities in labelled_columns(predictions):
        predicted = probabilities >= threshold
        tp = float(np.sum(truth & predicted))
        fp = float(np.sum(~truth & predicted))
        fn = float(np.sum(truth & ~predicted))
        tn = float(np.sum(~truth & ~predicted))
        recall = _ratio(tp, tp + fn)
        rows.append(
            {
                "label": finding,
                "f1": _ratio(2 * tp, 2 * tp + fp + fn),
                "recall": recall,
                "precision": _ratio(tp, tp + fp),
                "mcc": _ratio(tp * tn - fp * fn, ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5),
                "accuracy": _ratio(tp + tn, len(truth)),
                "g_mean": (recall * _ratio(tn, tn + fp)) ** 0.5,
                "num_positive": int(tp + fn),
                "num_predicted_positive": int(tp + fp),
            }
        )
    return pd.DataFrame(rows)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
