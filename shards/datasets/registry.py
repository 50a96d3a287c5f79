"""The data sets that can be packed, and how their tables, image paths and labels are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from shards.datasets.chexpert import chexpert_image_id, read_chexpert_labels, table_files
from shards.datasets.nih import read_nih_labels
from shards.errors import UserError
from shards.findings import CHEXPERT_FINDINGS, NIH_FINDINGS
from shards.policy import LabelPolicy
from shards.table import read_csv

AUTO = "auto"


@dataclass(frozen=True)
class Dataset:
    """A data set's findings, the reader of its label tables, and what its labels count as where nothing else is asked.

    `image_id` gives the id of the image at a path on the disk or in an archive, or None if it has none.
    """

    findings: tuple[str, ...]
    read_labels: Callable[[Path], pd.DataFrame]
    image_id: Callable[[str], str | None]
    policy: LabelPolicy


def file_name(path: str) -> str:
    """Return a path's last component, NIH's image id."""
    return PurePosixPath(path).name


_CHEXPERT = Dataset(CHEXPERT_FINDINGS, read_chexpert_labels, chexpert_image_id, LabelPolicy(blank="zeros"))
"""A finding that the report does not mention counts as absent, as in CheXpert's paper; an uncertain one is left out."""

DATASETS = {
    "nih": Dataset(NIH_FINDINGS, read_nih_labels, file_name, LabelPolicy()),
    "chexpert": _CHEXPERT,
    "chexphoto": _CHEXPERT,
}


def find_dataset(name: str, labels: Path) -> str:
    """Return the data set's name; where that is AUTO, the one that the label table is of.

    Raises:
        UserError: if the name is unknown, or the table is of no known data set.
    """
    if name in DATASETS:
        return name
    if name != AUTO:
        raise UserError(f"unknown data set {name!r}: give --dataset one of {', '.join((AUTO, *DATASETS))}")
    table = read_csv(table_files(labels)[0])
    if "Path" in table:
        rendered = table["Path"].str.contains("/(?:natural|synthetic)/").any()
        return "chexphoto" if rendered else "chexpert"
    if "Image Index" in table.columns.str.strip():
        return "nih"
    raise UserError(f"{labels}: neither NIH's, CheXpert's nor CheXphoto's label table; give another, or --dataset")
