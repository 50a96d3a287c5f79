"""Predicted probabilities, and preds.csv in reproduce-chexnet's format."""

import dataclasses
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shards.errors import UserError
from shards.files import whole_file

IMAGE_COLUMN = "Image Index"
PROBABILITY_PREFIX = "prob_"
"""The column names of reproduce-chexnet's ``preds.csv``."""


@dataclass(frozen=True)
class Predictions:
    """What a model says about N images and F findings.

    `image_ids` holds N names. `rows` is (N,) int32, each image's row in the study table, or None where the
    predictions come from a file. `probabilities` is (N, F) float32 in 0..1. `labels` is (N, F) float32: 1 positive,
    0 negative, NaN unknown; or None where nobody has looked them up. `findings` names the F columns.
    """

    image_ids: list[str]
    rows: np.ndarray | None
    probabilities: np.ndarray
    labels: np.ndarray | None
    findings: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = (len(self.image_ids), len(self.findings))
        for name, values in (("probabilities", self.probabilities), ("labels", self.labels)):
            if values is not None and values.shape != shape:
                raise ValueError(f"{name} are {values.shape}, not (images, findings) = {shape}")
        if self.rows is not None and self.rows.shape != shape[:1]:
            raise ValueError(f"rows are {self.rows.shape}, not {shape[:1]}")


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write preds.csv: `Image Index`, then `prob_<Finding>` per finding; compressed if the name ends in .gz.

    Each probability is the shortest text that gives the same float32, so reading it back is exact, and writing the
    reference's predictions again gives the reference's bytes.
    """
    columns = [PROBABILITY_PREFIX + finding for finding in predictions.findings]
    frame = pd.DataFrame(predictions.probabilities.astype(np.float32, copy=False), columns=columns)
    frame.insert(0, IMAGE_COLUMN, predictions.image_ids)
    content = frame.to_csv(index=False, lineterminator="\n").encode()
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_predictions(path: Path) -> Predictions:
    """Read a preds.csv, ours or reproduce-chexnet's, plain or .gz.

    Returns:
        The file's images and findings in its order, without rows and labels.

    Raises:
        UserError: if the file cannot be read as CSV, has no `Image Index` or no `prob_` column, names an image twice,
            or holds a value that is no probability.
    """
    try:
        frame = pd.read_csv(path, dtype={IMAGE_COLUMN: str})
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as predictions ({reason}); give a preds.csv") from error
    columns = [name for name in frame.columns if name.startswith(PROBABILITY_PREFIX)]
    if IMAGE_COLUMN not in frame.columns or not columns:
        raise UserError(
            f"{path}: columns are {', '.join(map(str, frame.columns[:4]))}; "
            f"predictions need {IMAGE_COLUMN!r} and {PROBABILITY_PREFIX}<Finding>"
        )
    image_ids = frame[IMAGE_COLUMN]
    duplicated = image_ids[image_ids.duplicated()]
    if len(duplicated):
        raise UserError(f"{path}: image {duplicated.iloc[0]} stands twice; remove one of its rows")
    numbers = frame[columns].apply(pd.to_numeric, errors="coerce")
    bad = np.argwhere(~((numbers >= 0) & (numbers <= 1)).to_numpy())
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"{path}: {columns[column]} of {image_ids[row]} is {frame[columns[column]][row]!r}, "
            "not a probability between 0 and 1; predict again"
        )
    return Predictions(
        image_ids=image_ids.tolist(),
        rows=None,
        probabilities=numbers.to_numpy(np.float32),
        labels=None,
        findings=tuple(name.removeprefix(PROBABILITY_PREFIX) for name in columns),
    )


def join_labels(predictions: Predictions, labels: pd.DataFrame) -> Predictions:
    """Return the predictions with their labels, looked up by image.

    Args:
        predictions: any predictions; their images and findings keep their order.
        labels: `image_id` (unique) and one column per finding (1, 0 or NaN), as the label readers return.

    Raises:
        UserError: if a predicted image or finding has no labels.
    """
    _require(predictions.findings, labels.columns, "findings")
    by_image = labels.set_index("image_id")
    _require(predictions.image_ids, by_image.index, "images")
    values = by_image.loc[predictions.image_ids, list(predictions.findings)].to_numpy(np.float32)
    return dataclasses.replace(predictions, labels=values)


def _require(names: Sequence[str], labelled: pd.Index, what: str) -> None:
    missing = pd.Index(names).difference(labelled, sort=False)
    if len(missing):
        raise UserError(
            f"{len(missing):,} of {len(names):,} predicted {what} have no labels ({', '.join(missing[:3])}); "
            "give the label file that covers them"
        )
