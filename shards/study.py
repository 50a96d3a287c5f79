"""The study to pack: label table, split and image files, joined into one study table."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from shards.datasets.nih import read_nih_labels
from shards.errors import BadInputError, UserError
from shards.findings import FOLDS, NIH_FINDINGS
from shards.manifest import sha256_of
from shards.sources import find_images
from shards.splits import assign_folds
from shards.table import make_study_table

DATASETS = {"nih": (read_nih_labels, NIH_FINDINGS)}
"""A data set's reader of label tables, and its findings."""


@dataclass(frozen=True)
class Study:
    """A study table of the images that are found and labelled, and where they come from, as the manifest says it."""

    table: pd.DataFrame
    findings: tuple[str, ...]
    labels: dict[str, Any]
    split: dict[str, Any]
    images: dict[str, Any]


def read_study(
    dataset: str,
    images: Sequence[Path],
    labels: Path,
    split: Sequence[str],
    seed: int,
    allow_unlabelled: bool,
    allow_empty_folds: bool,
) -> Study:
    """Join images, labels and split; say on standard error how many of the labelled images were found.

    The table is in the label table's order, whatever the order of the folders and files. See `shards.pack.pack` for
    the arguments.

    Raises:
        UserError: if a folder, an image, a label or a fold is missing, or the files contradict each other.
    """
    if dataset not in DATASETS:
        raise UserError(f"unknown data set {dataset!r}: give --dataset one of {', '.join(DATASETS)}")
    read_labels, findings = DATASETS[dataset]
    found = find_images(images)
    labelled = read_labels(labels)
    folds, split_source = assign_folds(labelled, split, seed)
    paths = labelled["image_id"].map(found)
    unlabelled = sorted(set(found) - set(labelled["image_id"]))
    _check_labelled(unlabelled, len(found), labels, allow_unlabelled)
    table = make_study_table(labelled.assign(path=paths, fold=folds)[paths.notna()], findings)
    print(f"{len(table):,} of {len(labelled):,} labelled images found", file=sys.stderr)
    check_folds(table, allow_empty_folds)
    counts = {"num_found": len(table), "num_labelled": len(labelled), "num_unlabelled": len(unlabelled)}
    return Study(
        table=table,
        findings=findings,
        labels={"file": labels.name, "sha256": sha256_of(labels)},
        split=split_source,
        images={"folders": [str(folder.resolve()) for folder in images], **counts},
    )


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


def _check_labelled(unlabelled: Sequence[str], num_found: int, labels: Path, allow_unlabelled: bool) -> None:
    if len(unlabelled) == num_found:
        raise UserError(f"{labels}: none of the {num_found:,} images found is in it ({unlabelled[0]} ...)")
    if unlabelled and not allow_unlabelled:
        raise UserError(
            f"{labels}: no labels for {len(unlabelled):,} of {num_found:,} images ({', '.join(unlabelled[:3])} ...): "
            "label them, or leave them out with --allow-unlabelled"
        )
