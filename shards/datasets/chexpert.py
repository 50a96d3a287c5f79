"""CheXpert (Irvin et al., AAAI 2019), small and full, and CheXphoto (Phillips et al., 2020): tables and image paths."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from shards.errors import UserError
from shards.findings import CHEXPERT_FINDINGS
from shards.table import check_unique, read_csv

TABLES = ("train.csv", "valid.csv", "test.csv")
FOLD_OF = {"train": "train", "valid": "val", "test": "test"}
"""The fold that the publishers gave an image, by the first component of its id."""

IMAGE = re.compile(
    r"(?:^|/)[^/]*?(?P<set>train|valid|test)[^/]*/(?P<rest>(?:(?:natural|synthetic)/[^/]+/)?"
    r"(?P<patient>patient\d+)/study\d+/view\d+_(?P<view>frontal|lateral)\.(?:jpg|jpeg|png))$"
)
"""An image's path. Full CheXpert's archives unpack to `CheXpert-v1.0 batch 2 (train 1)/patient00001/...`."""
LATERAL = "lateral"
SEXES = {"Male": "M", "Female": "F"}
LABELS = {"1": 1, "0": 0, "-1": -1, "": np.nan}
"""A label's meanings: positive, negative, uncertain, not mentioned."""


def chexpert_image_id(path: str) -> str | None:
    """Return the id of an image by its path, in a table or on a disk; None if it is none of CheXpert's.

    The id is the path from train, valid or test on, as `train/patient00001/study1/view1_frontal.jpg` or
    `train/synthetic/digital/patient00001/study1/view1_frontal.jpg`: the components before it differ between tables,
    folders and versions.
    """
    found = IMAGE.search(path)
    return f"{found['set']}/{found['rest']}" if found else None


def read_chexpert_labels(path: Path) -> pd.DataFrame:
    """Read a label table of CheXpert or CheXphoto, or all of TABLES that a folder holds: one row an image.

    Returns:
        `image_id` (see `chexpert_image_id`), `patient_id`, `fold` (the publishers'), `view` (PA, AP, LL ... or, for all
        side views, `lateral`), `age` (years) and `sex` (M, F, or empty) where the file has them, `no_finding`; then one
        float32 column per finding of CHEXPERT_FINDINGS: 1, 0, -1 uncertain, NaN not mentioned.

    Raises:
        UserError: if a file cannot be read, lacks a column, holds a path that is none of CheXpert's or a label that is
            none of 1, 0, -1 and blank, or an image stands twice.
    """
    files = table_files(path)
    labels = pd.concat([_read_table(file) for file in files], ignore_index=True)
    check_unique(path, labels["image_id"])
    return labels


def table_files(path: Path) -> list[Path]:
    """Return the label tables that a path stands for: itself, or those of TABLES that lie in the folder.

    Each may also lie beside its images, as `valid/valid.csv`.

    Raises:
        UserError: if it is a folder that holds none of them.
    """
    if not path.is_dir():
        return [path]
    places = [place for name in TABLES for place in (path / name, path / Path(name).stem / name)]
    files = [place for place in places if place.is_file()]
    if not files:
        raise UserError(f"{path}: holds none of {', '.join(TABLES)}; give --labels the table, or its folder")
    return files


def _read_table(path: Path) -> pd.DataFrame:
    raw = read_csv(path)
    missing = [name for name in ("Path", *CHEXPERT_FINDINGS) if name not in raw]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; give CheXpert's or CheXphoto's label table")
    parts = raw["Path"].str.extract(IMAGE)
    if parts["set"].isna().any():
        strange = raw["Path"][parts["set"].isna()].iloc[0]
        raise UserError(f"{path}: {strange!r} is no path like .../train/patient00001/study1/view1_frontal.jpg")
    labels = pd.DataFrame(
        {
            "image_id": parts["set"] + "/" + parts["rest"],
            "patient_id": parts["patient"],
            "fold": parts["set"].map(FOLD_OF),
            "view": _views(raw, parts["view"]),
        }
    )
    if "Age" in raw:
        labels["age"] = pd.to_numeric(raw["Age"], errors="coerce")
    if "Sex" in raw:
        labels["sex"] = raw["Sex"].map(SEXES).fillna("")
    if "No Finding" in raw:
        labels["no_finding"] = _labels(path, raw, "No Finding")
    for finding in CHEXPERT_FINDINGS:
        labels[finding] = _labels(path, raw, finding)
    return labels


def _views(raw: pd.DataFrame, views: pd.Series) -> pd.Series:
    return raw["AP/PA"].where(views != LATERAL, LATERAL) if "AP/PA" in raw else views


def _labels(path: Path, raw: pd.DataFrame, finding: str) -> pd.Series:
    text = raw[finding].str.removesuffix(".0")
    unknown = ~text.isin(LABELS)
    if unknown.any():
        image, value = raw["Path"][unknown].iloc[0], raw[finding][unknown].iloc[0]
        raise UserError(f"{path}: {finding} of {image} is {value!r}, none of 1, 0, -1 and blank; correct it")
    return text.map(LABELS).astype(np.float32)
