"""The study to pack: label table, split and images, joined into one study table."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from shards.datasets.chexpert import LATERAL, table_files
from shards.datasets.registry import DATASETS, find_dataset
from shards.errors import BadInputError, UserError
from shards.findings import FOLDS
from shards.splits import assign_folds
from shards.table import make_study_table

VIEWS = ("frontal", "both")


@dataclass(frozen=True)
class Labelled:
    """The images that are labelled, found or not, and where labels and folds come from, as the manifest says it.

    `frame` holds `image_id`, `patient_id`, `fold`, metadata and findings of the images that are wanted; `unwanted` the
    ids of those that are labelled but of another view.
    """

    dataset: str
    frame: pd.DataFrame
    unwanted: frozenset[str]
    labels: dict[str, Any]
    split: dict[str, Any]

    @property
    def findings(self) -> tuple[str, ...]:
        """The data set's findings."""
        return DATASETS[self.dataset].findings


def read_labelled(dataset: str, labels: Path, split: Sequence[str], seed: int, views: str) -> Labelled:
    """Read the label table, and give each image of the views asked for its fold.

    Args:
        dataset: a key of `DATASETS`, or auto.
        labels: the label table; CheXpert's and CheXphoto's also as the folder that holds them.
        split: see `shards.splits.assign_folds`.
        seed: fixes what the split draws.
        views: frontal, or both: with CheXpert's lateral views.

    Raises:
        UserError: if the table or the split is bad or contradicts the other.
    """
    if views not in VIEWS:
        raise UserError(f"--views {views}: give {' or '.join(VIEWS)}")
    dataset = find_dataset(dataset, labels)
    frame = DATASETS[dataset].read_labels(labels)
    lateral = frame["view"] == LATERAL if views == "frontal" and "view" in frame else pd.Series(False, frame.index)
    unwanted = frozenset(frame["image_id"][lateral])
    frame = frame[~lateral].reset_index(drop=True)
    folds, split_source = assign_folds(frame, split, seed)
    return Labelled(dataset, frame.assign(fold=folds), unwanted, labels_source(labels), split_source)


def labels_source(labels: Path) -> dict[str, Any]:
    """Return the label table's name and sha256, or those of all the tables in its folder, as the manifest has them."""
    files = table_files(labels)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return {"file": " + ".join(file.name for file in files), "sha256": digest.hexdigest()}


def join_images(labelled: Labelled, found: Mapping[str, str], allow_unlabelled: bool) -> tuple[pd.DataFrame, int]:
    """Give each labelled image its path; say on standard error how many of them were found.

    The table is in the label table's order, whatever the order of the folders and files.

    Args:
        labelled: the labelled images.
        found: each found image's id to its path.
        allow_unlabelled: leave out images that have no labels.

    Returns:
        The study table of the images that are labelled and found, and the number of images without labels.

    Raises:
        BadInputError: if images have no labels, all of them or any while none may.
    """
    frame = labelled.frame
    unlabelled = sorted(set(found) - set(frame["image_id"]) - labelled.unwanted)
    name = labelled.labels["file"]
    if len(unlabelled) == len(found):
        raise BadInputError(f"{name}: none of the {len(found):,} images found is in it ({unlabelled[0]} ...)")
    if unlabelled and not allow_unlabelled:
        raise BadInputError(
            f"{name}: no labels for {len(unlabelled):,} of {len(found):,} images ({', '.join(unlabelled[:3])} ...): "
            "label them, or leave them out with --allow-unlabelled"
        )
    paths = frame["image_id"].map(found)
    table = make_study_table(frame.assign(path=paths)[paths.notna()], labelled.findings)
    print(f"{len(table):,} of {len(frame):,} labelled images found", file=sys.stderr)
    return table, len(unlabelled)


def check_folds(table: pd.DataFrame, allow_empty_folds: bool) -> None:
    """Raise BadInputError, which names the fold, if train, val or test holds no image and none may be empty."""
    counts = fold_counts(table)
    empty = [fold for fold in FOLDS if not counts[fold]]
    if empty and not allow_empty_folds:
        raise BadInputError(
            f"fold {empty[0]} is empty (images found: {', '.join(f'{fold} {counts[fold]:,}' for fold in FOLDS)}): "
            "use --split patient, or --allow-empty-folds if the data set needs no other fold"
        )


def fold_counts(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of images in train, val and test."""
    return {fold: int((table["fold"] == fold).sum()) for fold in FOLDS}
